"""`mtmh serve` as a process of its own, over a store of packages: started, measured from outside,
stopped."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from mtmh.errors import UserError
from serving.triton.export import write_package
from serving.triton.store import install

FOLDER = Path("runs") / "bench"  # of the worlds and stores that the benchmarks of serving make
NAME = "bench"  # of the data set, as `mtmh serve --data` knows it
MIB = 2**20
# Large worlds take long to load and warm up.
START_SECONDS = 300.0


@dataclass(frozen=True)
class Cost:
    """CPU seconds used so far, and resident memory, of the router's process and of Triton with its
    stubs."""

    router_cpu: float
    triton_cpu: float
    router_mib: float
    triton_mib: float


@dataclass(frozen=True)
class RunningServer:
    """A running router with its Triton."""

    process: subprocess.Popen[bytes]
    url: str
    triton_url: str  # gRPC
    store: Path
    log: Path  # exposures and engagements
    seconds: float  # from the start of the process until it was ready
    secret: str  # of Triton's management

    def triton(self) -> psutil.Process:
        """Triton's process. Raises UserError where there is none just now."""
        for child in psutil.Process(self.process.pid).children():
            if child.name() == "tritonserver":
                return child
        raise UserError(
            f"no tritonserver runs below process {self.process.pid};"
            f" see {self.store / 'triton.log'}."
        )

    def cost(self) -> Cost:
        """As of now. Of stubs that ended since, nothing is known: compare only while no model comes
        or goes."""
        triton = self.triton()
        router, others = (
            psutil.Process(self.process.pid),
            [triton, *triton.children(recursive=True)],
        )
        return Cost(_cpu(router), sum(map(_cpu, others)), _mib(router), sum(map(_mib, others)))


def make_store(runs: Path, packages: Mapping[str, Path], features: Path | None) -> Path:
    """Install a package of each run, under its version's number, into the store of NAME below
    `runs`; its place."""
    store = runs / "serving" / NAME
    store.mkdir(parents=True)
    for number, run in packages.items():
        with tempfile.TemporaryDirectory(prefix=".package-", dir=store) as folder:
            install(write_package(run, number, Path(folder) / number, features), store)
    return store


@contextmanager
def serve(
    runs: Path, *settings: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Run `mtmh serve` over the store below `runs` on free ports; yields once it is ready.

    What it prints goes to `runs`/serve.log. Raises UserError when it ends or is not ready in time.
    """
    port, grpc, http, metrics = free_ports(4)
    store = runs / "serving" / NAME
    command = [
        sys.executable,
        "-m",
        "mtmh_cli",
        "serve",
        "--runs",
        str(runs),
        "--data",
        NAME,
        "--port",
        str(port),
    ]
    command += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    secret = secrets.token_hex(16)
    (runs / "secret").write_text(secret)
    # Settings of the test last: later ones win.
    for setting in ("listen.grpc_port=null", f"triton.secret_file={runs / 'secret'}", *settings):
        command += ["--set", setting]
    start = time.perf_counter()
    with (runs / "serve.log").open("ab") as log:
        path = os.pathsep.join(
            filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])
        )
        variables = {**os.environ, "PYTHONPATH": path, **(environment or {})}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
    url = f"http://127.0.0.1:{port}"
    try:
        # Ready is when it answers so; a process that ended will never be.
        while not is_ready(url):
            if process.poll() is not None or time.perf_counter() - start > START_SECONDS:
                raise UserError(
                    f"mtmh serve is not ready ({process.returncode});"
                    f" {runs / 'serve.log'} says why."
                )
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        yield RunningServer(
            process, url, f"127.0.0.1:{grpc}", store, store / "log", seconds, secret
        )
    finally:
        # It ends by itself when asked to; one that does not is a fault of its own.
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def is_ready(url: str) -> bool:
    """Whether /readyz says so."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return bool(json.load(response)["status"] == "ready")
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / MIB)
    except psutil.NoSuchProcess:
        return 0.0
