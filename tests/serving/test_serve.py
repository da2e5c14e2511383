"""`mtmh serve`: Triton and the router as people start and stop them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from helpers.processes import children, running, triton_ports, until

from serving.client import Client
from serving.triton.leftovers import SHARED_MEMORY


@dataclass
class Served:
    process: "subprocess.Popen[bytes]"
    numbers: list[int]  # of its ports, the router's first
    triton: int  # process number
    url: str

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def served(store: Path, tmp_path: Path, installed: None) -> Iterator[Served]:
    """`mtmh serve` over a folder of runs, once the router says that it is ready."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "synthetic").symlink_to(store)
    ports, router = triton_ports(), triton_ports()
    numbers = {
        "port": router.http,
        "http-port": ports.http,
        "grpc-port": ports.grpc,
        "metrics-port": ports.metrics,
    }
    given = [f"--{name}={number}" for name, number in numbers.items()]
    command = [
        sys.executable,
        "-m",
        "mtmh_cli",
        "serve",
        "--runs",
        str(tmp_path),
        "--data",
        "synthetic",
        *given,
    ]
    process = subprocess.Popen(
        [*command, f"--set=listen.grpc_port={router.grpc}"], stdout=subprocess.DEVNULL
    )
    try:
        one = Served(
            process, [*numbers.values(), router.grpc], 0, f"http://127.0.0.1:{router.http}"
        )
        until(one.ready)
        (one.triton,) = servers(process.pid)
        yield one
    finally:
        process.kill()
        process.wait()


def servers(pid: int) -> list[int]:
    """The Tritons among its children; the guardian is no server."""
    return [
        child
        for child in children(pid)
        if "tritonserver" in Path(f"/proc/{child}/cmdline").read_text()
    ]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_answers_and_leaves_nothing_behind(served: Served, number: int) -> None:
    with Client(served.url) as client:
        assert len(client.retrieve(triggers=["i0000001"], k=5).candidates) == 5
    assert len(running(served.triton)) == 4  # Triton and three models
    served.process.send_signal(number)
    served.process.wait(timeout=60)
    until(lambda: not running(served.triton), 15)
    if number != signal.SIGKILL:
        assert served.process.returncode == 0
    until(lambda: not list(SHARED_MEMORY.glob(f"*triton-{served.process.pid}-*")))
    for port in served.numbers:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_triton_that_dies_is_back_without_a_restart_of_the_router(served: Served) -> None:
    os.kill(served.triton, signal.SIGKILL)
    until(lambda: servers(served.process.pid) not in ([], [served.triton]))

    def answers() -> bool:
        answer = httpx.post(f"{served.url}/v1/retrieve", json={"triggers": ["i0000001"], "k": 5})
        assert answer.status_code in (200, 503)
        return answer.status_code == 200 and not answer.json()["degraded"]

    until(answers)
    until(served.ready)
