"""Nobody but its owner manages the models of a Triton, and nothing of it stays."""

import base64
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as grpc
from helpers.asking import Question, Serving, ask
from helpers.processes import running, until
from tritonclient.utils import InferenceServerException

from serving.triton.leftovers import SHARED_MEMORY, end_with_us, sweep
from serving.triton.management import headers

KNOWN = Question(["i0000001"])
EVIL = {
    "config": '{"backend": "python", "max_batch_size": 1}',
    "file:1/model.py": base64.b64encode(b"open('/tmp/owned', 'w')").decode(),
}


@pytest.mark.parametrize(
    "path",
    [
        "repository/models/evil/load",
        "repository/models/retrieve_relevance_1/unload",
        "repository/index",
        "systemsharedmemory/region/a/register",
        "models/relevance_1/config",
        "models/relevance_1/stats",
        "trace/setting",
        "logging",
    ],
)
def test_over_http_management_is_refused(serving: Serving, path: str) -> None:
    url = f"http://127.0.0.1:{serving.triton.ports.http}/v2/{path}"
    is_read = path.split("/")[-1] in ("config", "stats")
    plain = {"content-type": "text/plain", "origin": "https://evil.example"}
    response = (
        httpx.get(url) if is_read else httpx.post(url, json={"parameters": EVIL}, headers=plain)
    )
    assert response.status_code == 403
    assert serving.client.is_model_ready("retrieve_relevance_1")


def test_over_grpc_management_needs_the_secret(serving: Serving) -> None:
    client, wrong = serving.client, headers("0" * 32)
    calls = [
        lambda header: client.load_model("relevance_1", headers=header),
        lambda header: client.unload_model("relevance_1", headers=header),
        lambda header: client.get_model_repository_index(headers=header),
        lambda header: client.get_model_config("relevance_1", headers=header),
        lambda header: client.update_trace_settings(headers=header),
        lambda header: client.update_log_settings({}, headers=header),
        lambda header: client.register_system_shared_memory("a", "/mtmh", 8, headers=header),
    ]
    for call in calls:
        for header in (None, wrong):
            with pytest.raises(InferenceServerException, match="restricted"):
                call(header)
    index = client.get_model_repository_index(headers=headers(serving.triton.secret))
    assert {model.name for model in index.models if model.state == "READY"} >= {"relevance_1"}
    assert (
        len(ask(client, "retrieve_relevance_1", KNOWN)["item"]) > 0
    )  # inference is open as before


def test_the_secret_is_in_no_command_line_and_in_no_log(serving: Serving) -> None:
    secret = serving.triton.secret.encode()
    assert len(secret) == 32
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        assert secret not in command.read_bytes()
    assert secret not in serving.triton.log.read_bytes()


def test_a_triton_that_hangs_is_started_again(serving: Serving) -> None:
    hanging, starts = serving.triton.pid, serving.triton.starts
    os.kill(hanging, signal.SIGSTOP)
    until(lambda: serving.triton.starts > starts)
    serving.triton.wait_ready()
    until(lambda: not running(hanging))
    assert len(ask(serving.client, "retrieve_relevance_1", KNOWN)["item"]) > 0


def test_when_we_end_in_any_way_the_group_ends(tmp_path: Path) -> None:
    region = SHARED_MEMORY / f"mtmh-test-{os.getpid()}-region"
    region.touch()
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    guardian = end_with_us(sleeper.pid, region.name.removesuffix("region"))
    assert guardian.stdin is not None
    guardian.stdin.close()  # what the kernel does when this process is gone
    assert sleeper.wait(30) == -signal.SIGKILL
    assert guardian.wait(30) == 0
    assert not region.exists()


def test_the_next_start_ends_stubs_whose_owner_is_gone(tmp_path: Path) -> None:
    owner = subprocess.Popen(["true"])
    owner.wait()  # its number is free now
    stub = tmp_path / "triton_python_backend_stub"
    stub.symlink_to("/bin/sleep")
    prefix = f"mtmh-test-{os.getpid()}"
    region = SHARED_MEMORY / f"{prefix}-{owner.pid}-0"
    region.touch()
    ours = SHARED_MEMORY / f"{prefix}-{os.getpid()}-0"
    ours.touch()
    try:
        # sleep sums up its arguments and refuses a name, so the name stands before it
        left = subprocess.Popen([str(stub), "600"], env={"NAME": "unused"})
        # `read` is the shell's own: a last command of another program would take the shell's place,
        # and its name
        words = f": {stub} {prefix}-{owner.pid}-0; read line"
        with subprocess.Popen(["/bin/sh", "-c", words], stdin=subprocess.PIPE) as named:
            # a program that just started has no command line yet, for some microseconds
            until(lambda: prefix.encode() in Path(f"/proc/{named.pid}/cmdline").read_bytes(), 30)
            sweep(prefix)
            assert named.wait(30) == -signal.SIGKILL
        assert left.poll() is None  # another's
        assert not region.exists()
        assert ours.exists()
    finally:
        ours.unlink()
        left.kill()
        left.wait()


def test_a_client_of_before_still_gets_its_answers(serving: Serving) -> None:
    with grpc.InferenceServerClient(f"127.0.0.1:{serving.triton.ports.grpc}") as client:
        assert client.is_server_ready()
        assert client.is_model_ready("retrieve_engagement_1")
        assert client.get_model_metadata("retrieve_engagement_1").name == "retrieve_engagement_1"
