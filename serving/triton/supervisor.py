"""The real Triton as a process of ours: started, watched, started again when it dies, stopped with
all that it started.

Triton and the environment of its Python backend lie in .triton (made by `make .triton/.ready`), or
where the environment variable MTMH_TRITON says.
"""

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from mtmh.errors import UserError
from serving.triton import store as packages
from serving.triton.leftovers import EXIT, end_with_us, hide, start_process, stop_process, sweep
from serving.triton.management import headers, restriction

HOST = "127.0.0.1"
PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before a Triton that died is started again
STEADY = 60.0  # seconds after which its pauses begin anew
LIVE_SECONDS = 2.0  # within which a healthy server says that it is alive, also on a busy machine
MISSES = 3  # times in a row that it did not: it hangs, and is started again
LAST_LINES = 15  # of its log, that tell why it did not start
PREFIX = "mtmh-triton"  # of its shared memory, whose name goes on with our process number

log = logging.getLogger("mtmh.triton")


@dataclass(frozen=True)
class Ports:
    """Where Triton listens, on this machine only; HTTP is off unless it has a port."""

    http: int | None = None
    grpc: int = 8001
    metrics: int = 8002

    def numbers(self) -> list[int]:
        """All that are used."""
        return [port for port in (self.http, self.grpc, self.metrics) if port is not None]

    def check_free(self) -> None:
        """Raises UserError when something else listens on one."""
        for port in self.numbers():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise UserError(
                        f"port {port} is taken: stop what listens there, or choose another port."
                    ) from None


@dataclass
class Triton:
    """A running Triton. `starts` counts how often it was started; `pid` is the present process's.

    `secret` lets its owner load and unload models (serving/triton/management.py); a new one is made
    for each server.
    """

    ports: Ports
    log: Path
    secret: str = field(repr=False)
    starts: int = 0
    pid: int = 0
    # Serving; cleared while it is started again.
    ready: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def wait_ready(self, seconds: float = 120.0) -> None:
        """Return once it serves. Raises what the first start failed of, or TimeoutError after
        `seconds`.
        """
        end = time.monotonic() + seconds
        while not self.ready.wait(0.05):
            if self.failure is not None:
                raise self.failure
            if time.monotonic() > end:
                raise TimeoutError(
                    f"Triton is not ready after {seconds:.0f} s; its log: {self.log}"
                )

    def keep_running(
        self, command: list[str], environment: dict[str, str], store: Path | None
    ) -> None:
        """Start it, and again whenever it dies, until `stopping`; with the champion of `store`
        loaded.
        """
        pauses = iter(PAUSES)
        prefix = f"{PREFIX}-{os.getpid()}-"
        while not self.stopping.is_set():
            started = time.monotonic()
            with self.log.open("ab") as file:
                process = start_process(command, environment, file)
            self.pid = process.pid
            self.starts += 1
            guardian = end_with_us(process.pid, prefix)
            # Whatever goes wrong, Triton is stopped, and whoever waits for its first start hears
            # of it.
            try:
                self._make_ready(process, store)
                self._watch(process)
            except Exception as error:
                log.error("%s", error)
                if self.starts == 1:
                    self.failure = error
            finally:
                self.ready.clear()
                stop_process(process, prefix)
                guardian.kill()
                guardian.communicate()
            if self.stopping.is_set() or self.failure is not None:
                return
            # One that dies again and again is started ever more seldom.
            if time.monotonic() - started > STEADY:
                pauses = iter(PAUSES)
            pause = next(pauses, PAUSES[-1])
            text = "Triton ended (%s); starting it again in %s s; its log: %s"
            log.warning(text, process.returncode, pause, self.log)
            self.stopping.wait(pause)

    def _make_ready(self, process: subprocess.Popen[bytes], store: Path | None) -> None:
        # A channel that was refused waits for a second before it tries again, unless it is told
        # not to.
        soon = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]
        with InferenceServerClient(f"{HOST}:{self.ports.grpc}", channel_args=soon) as client:
            while not self.stopping.is_set():
                if process.poll() is not None:
                    ended = f"Triton ended at once ({process.returncode}); its log, {self.log}"
                    lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
                    raise UserError("\n".join([f"{ended}, ends:", *lines]))
                if _is_live(client):
                    break
                self.stopping.wait(0.02)
        hide(process.pid, self.secret)
        if store is not None:
            load(self, store, packages.champion(store))
        if not self.stopping.is_set():
            self.ready.set()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Return when Triton has ended, hangs, or is to stop."""
        misses, next_look = 0, time.monotonic()
        with InferenceServerClient(f"{HOST}:{self.ports.grpc}") as client:
            while process.poll() is None and not self.stopping.wait(0.05):
                if time.monotonic() < next_look:
                    continue
                misses = 0 if _is_live(client) else misses + 1
                next_look = time.monotonic() + 1.0
                if misses == MISSES and process.poll() is None:
                    text = "Triton has not said for %s times %s s that it is alive"
                    log.error(text, MISSES, LIVE_SECONDS)
                    # A stopped process cannot take a gentler signal.
                    os.killpg(process.pid, signal.SIGKILL)
                    return


@contextmanager
def triton(
    store: Path, ports: Ports | None = None, load_champion: bool = True, secret: str | None = None
) -> Iterator[Triton]:
    """Run Triton over the models of `store` and yield it once it serves; it has stopped when this
    ends.

    Model control is explicit: the champion is loaded at every start, unless `load_champion` is
    false because somebody else (the router) does it; whatever else was loaded is not after a
    restart. Its log is `store`/triton.log. `secret` opens Triton's management interface; a random
    one is made where it is None.

    Raises UserError when Triton is not installed, a port is taken, the store has no champion or
    Triton cannot load it.
    """
    server = Triton(ports or Ports(), store / "triton.log", secret or secrets.token_hex(16))
    command, environment = _command(store, server)
    packages.champion(store)
    server.ports.check_free()
    sweep(PREFIX)
    # The kernel ends Triton when the thread that started it ends: this one lives as long as the
    # server.
    keeper = threading.Thread(
        target=server.keep_running,
        args=(command, environment, store if load_champion else None),
        name="triton",
        daemon=True,
    )
    keeper.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stopping.set()
        keeper.join()


def _command(store: Path, server: Triton) -> tuple[list[str], dict[str, str]]:
    installation = Path(os.environ.get("MTMH_TRITON", ".triton")).resolve()
    root = installation / "server" / "pytriton" / "tritonserver"
    python = installation / "venv" / "bin" / "python"
    if not (root / "bin" / "tritonserver").is_file() or not python.exists():
        raise UserError(f"Triton is not installed in {installation}: run `make .triton/.ready`.")
    ports = server.ports
    addresses = {f"{name}-address": HOST for name in ("http", "grpc", "metrics")}
    numbers: dict[str, object] = {"grpc-port": ports.grpc, "metrics-port": ports.metrics}
    if ports.http is None:
        numbers["allow-http"] = "false"
    else:
        numbers |= {"http-port": ports.http, "http-restricted-api": restriction(server.secret)}
    numbers["grpc-restricted-protocol"] = restriction(server.secret)
    options = {
        "model-repository": store.resolve() / "models",
        "model-control-mode": "explicit",
        "backend-directory": root / "backends",
        "cache-directory": root / "caches",
        "allow-gpu-metrics": "false",
        "exit-timeout-secs": EXIT,
        "backend-config": f"python,shm-region-prefix-name={PREFIX}-{os.getpid()}-",
        **addresses,
        **numbers,
    }
    cores = max((os.cpu_count() or 2) // 2, 1)  # two heads search at once
    environment = {"OMP_NUM_THREADS": str(cores), **os.environ}
    environment["PATH"] = f"{python.parent}:{environment.get('PATH', '')}"
    # The backend loads the library of its own Python, which need not be ours.
    library = [_base(installation / "venv") / "lib", environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = ":".join(str(part) for part in library if part)
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    named = [f"--{name}={value}" for name, value in options.items()]
    return [
        str(root / "bin" / "tritonserver"),
        "--disable-auto-complete-config",
        *named,
    ], environment


def _base(venv: Path) -> Path:
    """The installation of Python that a virtual environment was made of."""
    lines = (venv / "pyvenv.cfg").read_text().splitlines()
    (home,) = [line.partition("=")[2].strip() for line in lines if line.startswith("home")]
    return Path(home).parent


def _is_live(client: InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_live(client_timeout=LIVE_SECONDS))
    except InferenceServerException:
        return False


def load(server: Triton, store: Path, version: str) -> None:
    """Load a version's models. Raises UserError with Triton's reason when one cannot be."""
    models: list[str] = json.loads((store / "versions" / version / "manifest.json").read_text())[
        "models"
    ]
    ensembles = [name for name in models if name.startswith("retrieve_")]
    with InferenceServerClient(f"{HOST}:{server.ports.grpc}") as client:

        def failure(name: str) -> str | None:
            try:
                client.load_model(name, headers=headers(server.secret), client_timeout=120.0)
            except InferenceServerException as error:
                return str(error.message()).partition("\n")[0]
            return None

        # An ensemble would bring its models with it, but two that share one are loaded one after
        # the other.
        for names in (sorted(set(models) - set(ensembles)), ensembles):
            with ThreadPoolExecutor(len(names)) as pool:
                reasons = list(pool.map(failure, names))
            for name, reason in zip(names, reasons, strict=True):
                if reason is not None:
                    raise UserError(f"Triton cannot load {name} of {store}: {reason}")
