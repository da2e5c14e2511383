"""The router under a load of mixed requests while something goes wrong, one fault after the other,
all counted.

On a version of the synthetic world with random vectors; in version 2 its heads are exchanged. The
histories are in Redis, and the log is on a small disk of its own. Must be 0: server errors that are
not declared, requests without any answer, answers that are not those of the version that they name
(asked of each version beforehand, with each head missing), exposures said to be logged that are not
in the log, crashes (the router's, or a Triton's that nobody killed), faults not recovered from,
faults without a sign (they were none), and requests that failed because of a new version.
"""

import asyncio
import dataclasses
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import aiohttp
import psutil
import typer
import uvloop

from benchmarks.faults import causes
from benchmarks.faults.scene import Scene, set_up
from benchmarks.load import (
    NO_ANSWER,
    Call,
    Key,
    Load,
    Ranked,
    Reply,
    ask,
    capacity,
    is_foreign,
    mixed_calls,
    ranked,
    session,
    undeclared,
)
from benchmarks.random_version import Items, make_run, users_and_items
from benchmarks.result import write
from benchmarks.server_process import FOLDER
from mtmh.errors import UserError
from mtmh.exposures.read import read
from mtmh.heads import HEADS

# of the load; requests a second, and share of the capacity, at the most
CALLS, RATE, SHARE = 60, 30.0, 0.25
CAPACITY_SECONDS = 5.0
# seconds: ahead of the fault, without a bad answer after it, at the most
BEFORE, WHOLE, PATIENCE = 2.0, 2.0, 60.0
DECLARED = (503,)
ZEROS = (
    "undeclared_5xx",
    "unanswered",
    "mixed",
    "lost",
    "crashes",
    "not_recovered",
    "unseen",
    "failed",
)
KILLED = "Triton killed"


@dataclass(frozen=True)
class Fault:
    """What is done, and what shows that it was a fault: by default answers that are not whole."""

    cause: Callable[[Scene], Awaitable[None]]
    sign: Callable[[Sequence[float], Sequence[Reply], Counter[int]], object] = (
        lambda bad, replies, extra: bad
    )
    is_harmless: bool = False  # a new version, right or wrong, fails no request


FAULTS = {
    "head unloaded": Fault(causes.head_unloaded),
    KILLED: Fault(causes.triton_killed),
    "Redis stopped": Fault(causes.redis_stopped),
    f"version swapped {causes.SWAPS} times": Fault(
        causes.version_swapped,
        lambda bad, replies, extra: (
            {reply.answer.get("model_version") for reply in replies} >= {"1", "2"}
        ),
        is_harmless=True,
    ),
    # It waits until the version is refused.
    "corrupt index": Fault(
        causes.index_corrupt, lambda bad, replies, extra: True, is_harmless=True
    ),
    "disk full for the log": Fault(causes.disk_full),
    "slow clients": Fault(causes.slow_clients, lambda bad, replies, extra: extra[408]),
    "fuzzed requests": Fault(
        causes.requests_fuzzed, lambda bad, replies, extra: extra[200] and extra[422]
    ),
}


@dataclass(frozen=True)
class Traffic:
    """The load, and the right answers to it."""

    calls: Sequence[Call]
    rate: float  # a second
    references: Mapping[Key, Ranked]


@dataclass
class Row:
    """What came of one fault; those of ZEROS must be 0."""

    fault: str
    requests: int
    statuses: dict[int, int]
    degraded: int
    logged: int
    undeclared_5xx: int
    unanswered: int
    mixed: int
    lost: int
    crashes: int
    not_recovered: int
    unseen: int
    failed: int
    said: dict[str, int]  # by the 503s of the load
    recovery_s: float  # from when the cause was gone until the last answer that was not whole

    def wrong(self) -> dict[str, int]:
        """What must be 0 and is not."""
        return {name: value for name in ZEROS if (value := getattr(self, name))}


def main(
    items: Items = 100_000,
    fuzz: Annotated[
        int, typer.Option(min=1, help="Requests to make up from the OpenAPI page.")
    ] = 10_000,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="First word of a fault to make; may be given many times.", show_default="all"
        ),
    ] = None,
) -> None:
    """Make eight faults under load: what must be 0, and seconds until all answers are whole
    again."""
    names = [name for name in FAULTS if not fault or name.split()[0] in fault]
    # A misspelt fault would make none at all, and the result would look perfect.
    if not names:
        raise UserError(
            f"--fault {' '.join(fault or [])}: write first words of {', '.join(FAULTS)}."
        )
    run = make_run(items, FOLDER)
    # One router for all faults: each finds it as the last one left it.
    with (
        TemporaryDirectory(prefix="faults-", dir=FOLDER) as folder,
        set_up(run, Path(folder), fuzz) as scene,
    ):
        traffic = uvloop.run(traffic_of(scene, run))
        print(f"  {traffic.rate:.1f} requests/s", flush=True)
        rows = []
        for name in names:
            rows.append(uvloop.run(make(name, scene, traffic)))
            print(f"  {rows[-1]}", flush=True)
        # Copied while it is there: the folder goes at the end of the block.
        if wrong := [row.fault for row in rows if row.wrong()]:
            shutil.copy(Path(folder) / "serve.log", FOLDER / "faults.log")
    _report(rows, scene, items)
    if wrong:
        sys.exit(f"not as it must be: {', '.join(wrong)}; the log is {FOLDER / 'faults.log'}")


async def traffic_of(scene: Scene, run: Path) -> Traffic:
    """Calls of the users and items of `run`, at a rate that this machine can take."""
    calls = mixed_calls(*users_and_items(run), CALLS)
    references = {}
    # Right is what each version answers with both heads, and where one is missing, with the quota
    # of the other alone.
    alphas = {"": None, HEADS[1]: 100, HEADS[0]: 0}  # what is missing -> alpha that does without it
    async with session() as http:
        for version in ("2", "1"):
            await asyncio.to_thread(scene.promote, version)
            for (number, call), (missing, alpha) in product(enumerate(calls), alphas.items()):
                without = Call(call.path, {**call.body, "alpha": alpha})
                reply = await _whole_answer(http, scene.served.url, without, version)
                references[number, version, missing] = ranked(reply.answer)
    if all(references[n, "1", ""] == references[n, "2", ""] for n in range(len(calls))):
        raise UserError("both versions answer the same: a mixture of them would not be seen.")
    rate = min(RATE, SHARE * await capacity(scene.served.url, calls, CAPACITY_SECONDS))
    return Traffic(calls, rate, references)


async def make(name: str, scene: Scene, traffic: Traffic) -> Row:
    """Load, fault, recovery; then what the replies and the log say."""
    scene.extra.clear()
    scene.undeclared.clear()
    fault, triton, start = FAULTS[name], _triton(scene), time.perf_counter()
    # The load goes on through fault and recovery; what is not whole is counted.
    async with Load(scene.served.url, traffic.calls, traffic.rate) as load:
        await asyncio.sleep(BEFORE)
        await fault.cause(scene)
        gone = time.perf_counter()
        recovered = await load.recovered(gone, WHOLE, PATIENCE)
        broken = [reply for reply in load.replies if not load.is_whole(reply)]
    bad = [reply.start + reply.seconds for reply in broken]
    # What is said to be logged must be on disk; a Triton may die of one fault alone.
    on_disk = read(scene.disk / "log", scene.disk / "nothing").exposures.select("request_id")
    in_log = set(on_disk.distinct().to_pyarrow()["request_id"].to_pylist())
    triton_died = name != KILLED and _triton(scene) != triton
    answers = [reply for reply in load.replies if reply.status == 200]
    logged = [reply.answer["request_id"] for reply in answers if reply.answer["exposure_logged"]]
    statuses = Counter(reply.status for reply in load.replies) + scene.extra
    wrong = sum(undeclared(reply.status, reply.retry_after, DECLARED) for reply in load.replies)
    print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return Row(
        fault=name,
        requests=sum(statuses.values()),
        statuses=dict(sorted(statuses.items())),
        degraded=sum(reply.answer["degraded"] for reply in answers),
        logged=len(logged),
        undeclared_5xx=wrong + len(scene.undeclared),
        unanswered=statuses[NO_ANSWER],
        mixed=sum(is_foreign(reply.call, reply.answer, traffic.references) for reply in answers),
        lost=len(set(logged) - in_log),
        crashes=int(scene.served.process.poll() is not None) + int(triton_died),
        not_recovered=int(not recovered),
        unseen=int(not fault.sign(bad, load.replies, scene.extra)),
        failed=(len(load.replies) - len(answers)) * fault.is_harmless,
        said=dict(
            Counter(str(reply.answer["error"]) for reply in load.replies if reply.status == 503)
        ),
        recovery_s=round(max(max(bad, default=gone) - gone, 0.0), 2),
    )


def _triton(scene: Scene) -> int:
    """Its process; 0 where there is none."""
    try:
        return int(scene.served.triton().pid)
    except (UserError, psutil.NoSuchProcess):
        return 0


async def _whole_answer(http: aiohttp.ClientSession, url: str, call: Call, version: str) -> Reply:
    """The answer of that version and both heads, however long it takes to come to it."""
    end = time.monotonic() + PATIENCE
    while True:
        reply = await ask(http, url, call)
        if reply.whole and reply.answer["model_version"] == version:
            return reply
        if time.monotonic() > end:
            answer = f"{reply.status} {reply.answer}"
            raise UserError(f"no whole answer of version {version} within {PATIENCE:g} s: {answer}")
        await asyncio.sleep(0.05)


def _report(rows: Sequence[Row], scene: Scene, items: int) -> None:
    columns = ["requests", "degraded", "logged", *ZEROS, "recovery_s"]
    width = max(len(row.fault) for row in rows)
    print(f"  {'fault':{width}} " + " ".join(f"{name:>14}" for name in columns) + "  statuses")
    for row in rows:
        figures = " ".join(f"{getattr(row, name):14,}" for name in columns)
        statuses = ", ".join(f"{status}: {n:,}" for status, n in row.statuses.items())
        print(f"  {row.fault:{width}} {figures}  {statuses}")
    # Twenty show what kind they are; all of them are counted above.
    for line in scene.undeclared[:20]:
        print(f"  {line}")
    details = {
        "baseline": "requests; the value is all that must be 0, over all faults",
        "items": items,
        "log": f"on a disk of its own: {scene.is_disk}",
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    wrong = sum(sum(row.wrong().values()) for row in rows)
    write("faults", wrong, "of what must be 0", sum(row.requests for row in rows), details)
