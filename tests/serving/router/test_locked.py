"""The router with what its image has: requirements-router.txt, and no other package."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from helpers.live_router import RouterFolder, eventually
from helpers.only_locked import PYTHONPATH, ROOT
from helpers.processes import free_ports

LOCKED = "from helpers.only_locked import ROOT, only; only(ROOT / 'requirements-router.txt'); "
ROUTE = LOCKED + "from mtmh_cli import main; main()"


def locked(code: str, *words: str) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    return subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload, no-any-return]


def test_it_answers_a_user_whose_history_is_in_the_feature_store(
    place: RouterFolder, tmp_path: Path
) -> None:
    http, rpc = free_ports(2)
    secret = tmp_path / "secret"
    secret.write_text(place.triton.secret)
    settings = [
        f"store={place.store}",
        f"triton.url=127.0.0.1:{place.ports.grpc}",
        f"triton.secret_file={secret}",
        f"listen.port={http}",
        f"listen.grpc_port={rpc}",
        "triton.poll_seconds=0.2",
        "limits.deadline_ms=5000",
        "features.timeout_ms=4000",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    router = locked(ROUTE, "route", *words)
    url = f"http://127.0.0.1:{http}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            assert router.poll() is None, router.communicate()[1]
            return False

    try:
        eventually(ready, "it is ready")
        user = {"user_id": "u01", "k": 5}
        answer = httpx.post(f"{url}/v1/retrieve", json=user, timeout=30).json()
        assert answer["candidates"], answer
    finally:
        router.terminate()
        _, log = router.communicate(timeout=60)
    assert "Traceback" not in log


@pytest.mark.parametrize("package", ["torch", "mlflow", "kfp", "transformers", "numba"])
def test_what_the_lock_leaves_out_cannot_be_imported(package: str) -> None:
    """Here it is installed: so the test above proves something."""
    process = locked(f"{LOCKED}import {package}")
    assert f"No module named '{package}'" in process.communicate(timeout=60)[1]


def test_a_command_that_needs_more_says_so() -> None:
    process = locked(ROUTE, "compile", str(ROOT / "runs" / "never.yaml"))
    _, message = process.communicate(timeout=60)
    assert process.returncode == 2
    assert message.startswith("mtmh: this command needs the package kfp, which is not installed")
