"""The faults of a router and what stands behind it; a coroutine each, which ends when its cause is
gone again."""

import asyncio
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from benchmarks.faults.fuzz import fuzz
from benchmarks.faults.scene import Scene
from mtmh.errors import UserError
from serving.router.heads import connect
from serving.triton.management import headers
from serving.triton.store import CHAMPION

SWAPS = 20
SLOW_CLIENTS = 8  # of each kind
SLOW_SECONDS = 8.0  # how long a slow client stays
OUT_SECONDS = 3.0  # how long Redis and the disk are away
BALLAST = "ballast"  # the file that fills the disk
SWAPPED = f"version swapped {SWAPS} times"


async def head_unloaded(scene: Scene) -> None:
    """Both models of a head are taken away, then those of the other; the router loads them
    again."""
    secret = headers(scene.served.secret)
    async with connect(scene.served.triton_url) as triton:
        for head in ("relevance", "engagement"):
            for name in (f"retrieve_{head}_1", f"{head}_1"):
                await triton.unload_model(name, headers=secret)
            end = time.monotonic() + 30
            while not await triton.is_model_ready(f"retrieve_{head}_1"):
                if time.monotonic() > end:
                    raise UserError(f"the router did not load the {head} head again within 30 s.")
                await asyncio.sleep(0.05)


async def triton_killed(scene: Scene) -> None:
    """SIGKILL; the supervisor starts it again."""
    scene.served.triton().kill()


async def redis_stopped(scene: Scene) -> None:
    """Feast's online store is away for a while."""
    await asyncio.to_thread(scene.redis.stop)
    await asyncio.sleep(OUT_SECONDS)
    await asyncio.to_thread(scene.redis.start)


async def version_swapped(scene: Scene) -> None:
    """Another champion again and again, each as soon as the last one takes traffic; the last is the
    first again."""
    for number in range(SWAPS):
        version = "12"[(number + 1) % 2]
        await asyncio.to_thread(scene.promote, version)
        # The next swap waits until this one serves.
        end = time.monotonic() + 120
        while (await _readyz(scene))["model_version"] != version:
            if time.monotonic() > end:
                raise UserError(f"version {version} does not serve after 120 s.")
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)


async def index_corrupt(scene: Scene) -> None:
    """A new version whose index has a wrong byte becomes champion; it must be refused, until the
    old one is again."""
    await asyncio.to_thread(scene.install_corrupt, "3")
    draft = scene.served.store / ".champion"
    draft.write_text("3\n")  # promote would refuse it
    draft.replace(scene.served.store / CHAMPION)
    end = time.monotonic() + 60
    while "3" not in (await _readyz(scene))["refused"]:
        if time.monotonic() > end:
            raise UserError("the corrupt version is not refused after 60 s.")
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    await asyncio.to_thread(scene.promote, "1")


async def disk_full(scene: Scene) -> None:
    """No byte more can be written to the log, for a while."""
    if scene.is_disk:
        # it is full, as wanted
        with (scene.disk / BALLAST).open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(2**12))
        await asyncio.sleep(OUT_SECONDS)
        (scene.disk / BALLAST).unlink()
        return
    pid = scene.served.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    await asyncio.sleep(OUT_SECONDS)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def slow_clients(scene: Scene) -> None:
    """Some senders of a byte at a time, some of a header that never ends, some who do not read
    their answer."""
    start = b"POST /v1/retrieve HTTP/1.1\r\n"
    slow_body = partial(
        _trickle, start + b"host: x\r\ncontent-length: 1000\r\n\r\n", b" ", is_answered=True
    )
    # A header without an end is never a request, so no answer to it is read.
    endless_header = partial(_trickle, start, b"x-slow: x\r\n", is_answered=False)
    kinds: list[Callable[[str], int | None]] = [slow_body, endless_header, _never_reads]
    works = kinds * SLOW_CLIENTS
    loop, url = asyncio.get_running_loop(), scene.served.url
    with ThreadPoolExecutor(len(works)) as threads:
        statuses = await asyncio.gather(
            *(loop.run_in_executor(threads, work, url) for work in works)
        )
    scene.extra.update(status for status in statuses if status is not None)


async def requests_fuzzed(scene: Scene) -> None:
    """Requests as the OpenAPI schema allows them, and as it does not."""
    statuses, wrong = await asyncio.to_thread(fuzz, scene.served.url, scene.fuzz)
    scene.extra.update(statuses)
    scene.undeclared += wrong


async def _readyz(scene: Scene) -> dict[str, dict[str, str]]:
    import aiohttp

    async with aiohttp.ClientSession() as http, http.get(f"{scene.served.url}/readyz") as response:
        answer: dict[str, dict[str, str]] = await response.json()
        return answer


def _connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def _trickle(start: bytes, piece: bytes, url: str, is_answered: bool) -> int | None:
    """Send a piece every fifth of a second after `start`; the status of the answer, where it is
    read."""
    answer = b""
    with _connect(url) as slow:
        slow.sendall(start)
        end = time.monotonic() + SLOW_SECONDS
        with suppress(OSError):  # it may be hung up on
            while time.monotonic() < end:
                slow.sendall(piece)
                time.sleep(0.2)
        # What was answered before the router hung up can still be read.
        with suppress(OSError):
            answer = slow.recv(4096) if is_answered else b""
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else None


def _never_reads(url: str) -> int | None:
    """Asks a hundred times without reading an answer."""
    request = b"GET /v1/items?limit=100 HTTP/1.1\r\nhost: x\r\n\r\n"
    with _connect(url) as client:
        client.settimeout(1)
        end = time.monotonic() + SLOW_SECONDS
        with suppress(OSError):  # the router may read no more of it
            for _ in range(100):
                client.sendall(request)
        time.sleep(max(end - time.monotonic(), 0))
    return None
