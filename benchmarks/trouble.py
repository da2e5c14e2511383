"""Troubles for a router and what stands behind it; each is a coroutine that ends when its cause is gone again."""

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz import fuzz
from benchmarks.served import Served, free_ports
from mtmh.errors import UserError
from serving.router.heads import connect
from serving.triton.export import write_package
from serving.triton.management import headers
from serving.triton.store import CHAMPION, install, promote

SWAPS, SLOW_CLIENTS, DRIBBLE_SECONDS, OUT_SECONDS = 20, 8, 8.0, 3.0  # clients of each kind
DISK_MIB, BALLAST = 256, "ballast"
SWAPPED = f"version swapped {SWAPS} times"


@dataclass
class Redis:
    """A redis-server that keeps what it holds when it is stopped."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers. Raises UserError where there is no redis-server."""
        from redis import Redis as Client
        from redis import RedisError

        if shutil.which("redis-server") is None:
            raise UserError("no redis-server on the PATH: apt-get install -y redis-server.")
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir", str(self.folder)]
        command = ["redis-server", "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with Client(port=self.port) as client:
            while True:
                try:
                    client.dbsize()  # an error while it still reads its file
                    return
                except RedisError:
                    if self.process.poll() is not None:
                        raise UserError(f"redis-server ended at once ({self.process.returncode}).") from None
                    time.sleep(0.05)

    def stop(self) -> None:
        """Return when it has ended."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of DISK_MIB on `folder` where this user may; whether it is one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@dataclass
class Place:
    """What the troubles are made to."""

    served: Served
    retriever: Path
    redis: Redis
    disk: Path
    is_disk: bool  # else the size of the router's files is bounded instead
    fuzzed: int
    extra: Counter[int] = field(default_factory=Counter)  # statuses of requests that are no part of the load
    undeclared: list[str] = field(default_factory=list)

    def promote(self, version: str) -> None:
        promote(self.served.store, version)


async def head_unloaded(place: Place) -> None:
    """Both models of a head are taken away, then those of the other; the router loads them again."""
    secret = headers(place.served.secret)
    async with connect(place.served.triton_url) as triton:
        for head in ("relevance", "engagement"):
            for name in (f"retrieve_{head}_1", f"{head}_1"):
                await triton.unload_model(name, headers=secret)
            end = time.monotonic() + 30
            while not await triton.is_model_ready(f"retrieve_{head}_1"):
                if time.monotonic() > end:
                    raise UserError(f"the router did not load the {head} head again within 30 s.")
                await asyncio.sleep(0.05)


async def triton_killed(place: Place) -> None:
    """SIGKILL; the supervisor starts it again."""
    place.served.triton().kill()


async def redis_stopped(place: Place) -> None:
    """Feast's online store is away for a while."""
    await asyncio.to_thread(place.redis.stop)
    await asyncio.sleep(OUT_SECONDS)
    await asyncio.to_thread(place.redis.start)


async def version_swapped(place: Place) -> None:
    """Another champion again and again, each as soon as the last one takes traffic; the last is the first again."""
    for number in range(SWAPS):
        version = "12"[(number + 1) % 2]
        await asyncio.to_thread(place.promote, version)
        await _until_ready(place, version)
        await asyncio.sleep(0.3)


async def index_corrupt(place: Place) -> None:
    """A new version whose index has a wrong byte becomes champion; it must be refused, until the old one is again."""
    await asyncio.to_thread(_install_corrupt, place, "3")
    draft = place.served.store / ".champion"
    draft.write_text("3\n")  # promote would refuse it
    draft.replace(place.served.store / CHAMPION)
    end = time.monotonic() + 60
    while "3" not in (await _readyz(place))["refused"]:
        if time.monotonic() > end:
            raise UserError("the corrupt version is not refused after 60 s.")
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    await asyncio.to_thread(place.promote, "1")


async def disk_full(place: Place) -> None:
    """No byte more can be written to the log, for a while."""
    if place.is_disk:
        with (place.disk / BALLAST).open("wb", buffering=0) as ballast, suppress(OSError):  # it is full, as wanted
            while True:
                ballast.write(bytes(2**12))
        await asyncio.sleep(OUT_SECONDS)
        (place.disk / BALLAST).unlink()
        return
    pid = place.served.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    await asyncio.sleep(OUT_SECONDS)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def slow_clients(place: Place) -> None:
    """Some senders of a byte at a time, some of a header that never ends, some who do not read their answer."""
    works = [_dribble, _endless_header, _deaf] * SLOW_CLIENTS
    loop, url = asyncio.get_running_loop(), place.served.url
    with ThreadPoolExecutor(len(works)) as threads:
        statuses = await asyncio.gather(*(loop.run_in_executor(threads, work, url) for work in works))
    place.extra.update(status for status in statuses if status is not None)


async def fuzzed(place: Place) -> None:
    """Requests as the OpenAPI schema allows them, and as it does not."""
    statuses, wrong = await asyncio.to_thread(fuzz, place.served.url, place.fuzzed)
    place.extra.update(statuses)
    place.undeclared += wrong


TROUBLES: dict[str, Callable[[Place], Awaitable[None]]] = {
    "head unloaded": head_unloaded,
    "Triton killed": triton_killed,
    "Redis stopped": redis_stopped,
    SWAPPED: version_swapped,
    "corrupt index": index_corrupt,
    "disk full for the log": disk_full,
    "slow clients": slow_clients,
    "fuzzed requests": fuzzed,
}


async def _readyz(place: Place) -> dict[str, dict[str, str]]:
    import aiohttp

    async with aiohttp.ClientSession() as http, http.get(f"{place.served.url}/readyz") as response:
        told: dict[str, dict[str, str]] = await response.json()
        return told


async def _until_ready(place: Place, version: str) -> None:
    end = time.monotonic() + 120
    while (await _readyz(place))["model_version"] != version:
        if time.monotonic() > end:
            raise UserError(f"version {version} does not serve after 120 s.")
        await asyncio.sleep(0.05)


def _install_corrupt(place: Place, number: str) -> None:
    store = place.served.store
    package = place.retriever.parent / f".package-{number}"
    try:
        install(write_package(place.retriever, number, package), store)
    finally:
        shutil.rmtree(package)
    index = store / "models" / f"relevance_{number}" / number / "index.faiss"
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 0xFF
    index.unlink()  # it may be a hard link
    index.write_bytes(content)


def _connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def _dribble(url: str) -> int | None:
    """The status of a body of which a byte comes every fifth of a second."""
    with _connect(url) as slow:
        slow.sendall(b"POST /v1/retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        end = time.monotonic() + DRIBBLE_SECONDS
        with suppress(OSError):  # it may be hung up on
            while time.monotonic() < end:
                slow.sendall(b" ")
                time.sleep(0.2)
        return _status(slow)


def _endless_header(url: str) -> int | None:
    with _connect(url) as slow:
        slow.sendall(b"POST /v1/retrieve HTTP/1.1\r\n")
        end = time.monotonic() + DRIBBLE_SECONDS
        with suppress(OSError):  # as above
            while time.monotonic() < end:
                slow.sendall(b"x-slow: x\r\n")
                time.sleep(0.2)
    return None


def _deaf(url: str) -> int | None:
    """Asks a hundred times without reading an answer."""
    asked = b"GET /v1/items?limit=100 HTTP/1.1\r\nhost: x\r\n\r\n"
    with _connect(url) as deaf:
        deaf.settimeout(1)
        end = time.monotonic() + DRIBBLE_SECONDS
        with suppress(OSError):  # the router may read no more of it
            for _ in range(100):
                deaf.sendall(asked)
        time.sleep(max(end - time.monotonic(), 0))
    return None


def _status(open_socket: socket.socket) -> int | None:
    try:
        answer = open_socket.recv(4096)
    except OSError:
        return None
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else None
