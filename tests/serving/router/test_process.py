"""The router as a process of its own: it starts, stops cleanly, and says what keeps it from
starting.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from helpers.live_router import RouterFolder, eventually
from helpers.processes import free_ports

from mtmh.errors import UserError
from serving.router.configuration import read_tokens
from serving.router.settings import Source

CODE = (
    "import sys; from serving.router.app import serve; from serving.router.settings import Source; "
)
CODE += "serve(Source(None, sys.argv[1:])); print('stopped')"


def start(*settings: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CODE, *settings], env=environment, **pipes)  # type: ignore[call-overload]


def test_it_serves_until_it_is_interrupted(place: RouterFolder, tmp_path: Path) -> None:
    http, rpc = free_ports(2)
    own = [
        f"store={place.store}",
        f"triton.url=127.0.0.1:{place.ports.grpc}",
        f"listen.port={http}",
    ]
    secret = tmp_path / "secret"
    secret.write_text(place.triton.secret)
    own.append(f"triton.secret_file={secret}")
    router = start(
        *own, f"listen.grpc_port={rpc}", "triton.poll_seconds=0.2", "limits.deadline_ms=5000"
    )
    url = f"http://127.0.0.1:{http}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            assert router.poll() is None, router.communicate()[1]
            return False

    try:
        eventually(ready, "it is ready")
        assert httpx.get(f"{url}/healthz").json()["status"] == "alive"
        assert httpx.post(f"{url}/v1/retrieve", json={"triggers": ["i00"], "k": 3}).json()[
            "candidates"
        ]
        router.send_signal(signal.SIGINT)
        out, log = router.communicate(timeout=60)
    finally:
        router.kill()
    assert (router.returncode, out) == (0, "stopped\n")
    assert "Traceback" not in log
    for line in log.splitlines():
        assert line.startswith('{"time":')  # JSON, all of it


@pytest.mark.parametrize("taken", ["port", "grpc_port"])
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, taken: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = {"port": free_ports(1)[0], "grpc_port": free_ports(1)[0]} | {
            taken: other.getsockname()[1]
        }
        settings = [f"listen.{name}={port}" for name, port in ports.items()]
        router = start(f"store={tmp_path}", *settings)
        _, log = router.communicate(timeout=60)
    assert router.returncode != 0
    assert "UserError" in log.splitlines()[-1]
    assert "port" in log.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["limits.trigger=5", "listen.port=0", "experiment.arms=[{nmae: a}]"],
            ["triggers", "listen.port", "'name'"],
        ),
        (["listen.host=0.0.0.0"], ["auth.token_file"]),
        (["limits.batch=32", "limits.in_flight=8"], ["in_flight 8"]),
        (["experiment.arms=[{name: a}, {name: a}]"], ["a name of its own"]),
        (["experiment.arms=[{name: a, weight: 0}]"], ["weight above 0"]),
    ],
)
def test_wrong_settings_are_named_all_at_once(settings: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as wrong:
        Source(None, settings).read()
    for word in words:
        assert word in str(wrong.value)


def test_a_token_file_that_is_missing_or_empty_is_explained(tmp_path: Path) -> None:
    settings = Source(None, [f"auth.token_file={tmp_path / 'token'}", "listen.host=0.0.0.0"]).read()
    with pytest.raises(UserError, match="no such file"):
        read_tokens(settings.auth.token_file)
    (tmp_path / "token").write_text("\n")
    with pytest.raises(UserError, match="empty"):
        read_tokens(settings.auth.token_file)
