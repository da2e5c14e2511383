"""The router under a load of mixed requests while something goes wrong, one trouble after the other, all counted.

On the untrained world of MTMH_BENCH_ITEMS (default 100,000) items, with version 2 whose heads are exchanged, the
histories in Redis, and the log on a small disk of its own. MTMH_BENCH_FUZZ (default 10,000) requests are made up from
the OpenAPI schema; MTMH_BENCH_FAULTS names the troubles to make (default: all of benchmarks/trouble.py, by their first
word, separated by commas).

Must be 0, else it exits 1: server errors that are not declared, requests without any answer, answers that are not those
of the version that they name (asked of each version beforehand, with each head missing), exposures said to be logged
that are not in the log, crashes (the router's, or a Triton's that nobody killed), troubles not recovered from,
troubles without a sign (they were none), and requests that failed because of a new version.
"""

import asyncio
import dataclasses
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import uvloop

from benchmarks.judge import Key, Ranked, is_foreign, ranked, undeclared
from benchmarks.load import NO_ANSWER, Call, Load, Reply, ask, capacity, mixed_calls, session
from benchmarks.result import write
from benchmarks.served import FOLDER, make_store, serve
from benchmarks.trouble import SWAPPED, TROUBLES, Place, Redis, small_disk
from benchmarks.untrained import load_histories, make_run, users_and_items
from feature_repo.store import EMBEDDED
from mtmh.errors import UserError
from mtmh.exposures.read import read
from mtmh.heads import HEADS
from mtmh.retrieval.version import MANIFEST, write_manifest
from serving.triton.store import promote

ITEMS = int(os.environ.get("MTMH_BENCH_ITEMS", "100000"))
FUZZ = int(os.environ.get("MTMH_BENCH_FUZZ", "10000"))
CHOSEN = os.environ.get("MTMH_BENCH_FAULTS", "")
CALLS, RATE, SHARE = 60, 30.0, 0.25  # of the load; requests a second, and share of the capacity, at the most
CAPACITY_SECONDS = 5.0
BEFORE, WHOLE, PATIENCE = 2.0, 2.0, 60.0  # seconds: ahead of the trouble, without a bad answer after it, at the most
SETTINGS = ("limits.body_seconds=3", "triton.poll_seconds=0.5", "triton.drain_seconds=1")
DECLARED = (503,)
ZEROS = ("undeclared_5xx", "unanswered", "mixed", "lost", "crashes", "not_recovered", "unseen", "failed")
HARMLESS = (SWAPPED, "corrupt index")  # a new version, right or wrong, fails no request
Signs = Callable[[Sequence[float], Sequence[Reply], Counter[int]], object]
SIGNS: dict[str, Signs] = {  # what shows that a trouble was one: answers that are not whole, or as said here
    **dict.fromkeys(TROUBLES, lambda bad, replies, extra: bad),
    SWAPPED: lambda bad, replies, extra: {reply.answer.get("model_version") for reply in replies} >= {"1", "2"},
    "corrupt index": lambda bad, replies, extra: True,  # it waits until the version is refused
    "slow clients": lambda bad, replies, extra: extra[408],
    "fuzzed requests": lambda bad, replies, extra: extra[200] and extra[422],
}


@dataclass
class Row:
    """What came of one trouble; those of ZEROS must be 0."""

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


def main() -> None:
    """Make every trouble, count, and print the table."""
    run = make_run(ITEMS, FOLDER)
    chosen = [name for name in TROUBLES if not CHOSEN or name.split()[0] in CHOSEN.split(",")]
    if not chosen:
        raise UserError(f"MTMH_BENCH_FAULTS is {CHOSEN!r}; write first words of {', '.join(TROUBLES)}.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="faults-", dir=FOLDER)))
        other = _exchanged(run, folder / "other")
        store = make_store(folder, {"1": run, "2": other}, None)
        redis = Redis(folder)
        stack.callback(redis.stop)
        redis.start()
        own = {"FEAST_FS_YAML_FILE_PATH": str(EMBEDDED.with_name("feature_store.cluster.yaml"))}
        own["REDIS_CONNECTION"] = f"127.0.0.1:{redis.port}"
        os.environ.update(own)
        load_histories(run, folder / "features")
        is_disk = stack.enter_context(small_disk(folder / "disk"))
        promote(store, "1")
        settings = [*SETTINGS, f"features.directory={folder / 'features'}", f"log.directory={folder / 'disk' / 'log'}"]
        served = stack.enter_context(serve(folder, *settings, environment=own))
        place = Place(served, run / "retriever", redis, folder / "disk", is_disk, FUZZ)
        calls = mixed_calls(*users_and_items(run), CALLS)
        rows = uvloop.run(_all(place, calls, chosen))
        if failed := [row for row in rows if any(getattr(row, name) for name in ZEROS)]:
            shutil.copy(folder / "serve.log", FOLDER / "faults.log")
    _tell(rows, place)
    if failed:
        sys.exit(f"not as it must be: {', '.join(row.fault for row in failed)}; the log is {FOLDER / 'faults.log'}")


async def _all(place: Place, calls: Sequence[Call], chosen: Sequence[str]) -> list[Row]:
    references = await _references(place, calls)
    rate = min(RATE, SHARE * await capacity(place.served.url, calls, CAPACITY_SECONDS))
    print(f"  {rate:.1f} requests/s", flush=True)
    rows = []
    for name in chosen:
        rows.append(await _row(name, place, calls, references, rate))
        print(f"  {rows[-1]}", flush=True)
    return rows


async def _row(name: str, place: Place, calls: Sequence[Call], references: Mapping[Key, Ranked], rate: float) -> Row:
    """Load, trouble, recovery; then what the replies and the log say."""
    place.extra.clear()
    triton, start = _triton(place), time.perf_counter()
    async with Load(place.served.url, calls, rate) as load:
        await asyncio.sleep(BEFORE)
        await TROUBLES[name](place)
        gone = time.perf_counter()
        recovered = await _recovered(load, calls, gone)
        bad = [reply.start + reply.seconds for reply in load.replies if not _is_whole(reply, calls)]
    triton_died = name != "Triton killed" and _triton(place) != triton
    answers = [reply for reply in load.replies if reply.status == 200]
    logged = [reply.answer["request_id"] for reply in answers if reply.answer["exposure_logged"]]
    statuses = Counter(reply.status for reply in load.replies) + place.extra
    wrong = sum(undeclared(reply.status, reply.retry_after, DECLARED) for reply in load.replies)
    print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return Row(
        fault=name,
        requests=sum(statuses.values()),
        statuses=dict(sorted(statuses.items())),
        degraded=sum(reply.answer["degraded"] for reply in answers),
        logged=len(logged),
        undeclared_5xx=wrong + len(place.undeclared),
        unanswered=statuses[NO_ANSWER],
        mixed=sum(is_foreign(reply.call, reply.answer, references) for reply in answers),
        lost=len(set(logged) - _in_log(place)),
        crashes=int(place.served.process.poll() is not None) + int(triton_died),
        not_recovered=int(not recovered),
        unseen=int(not SIGNS[name](bad, load.replies, place.extra)),
        failed=(len(load.replies) - len(answers)) * (name in HARMLESS),
        said=dict(Counter(str(reply.answer["error"]) for reply in load.replies if reply.status == 503)),
        recovery_s=round(max(max(bad, default=gone) - gone, 0.0), 2),
    )


def _triton(place: Place) -> int:
    """Its process; 0 where there is none."""
    try:
        return int(place.served.triton().pid)
    except (UserError, psutil.NoSuchProcess):
        return 0


async def _recovered(load: Load, calls: Sequence[Call], gone: float) -> bool:
    """Wait until the answers to what was asked for WHOLE seconds were whole, all of them."""
    while time.perf_counter() < gone + PATIENCE:
        await asyncio.sleep(0.25)
        since = max(time.perf_counter() - WHOLE, gone)
        late = [reply for reply in load.replies if reply.start + reply.seconds >= since]
        if time.perf_counter() > gone + WHOLE and late and all(_is_whole(reply, calls) for reply in late):
            return True
    return False


def _is_whole(reply: Reply, calls: Sequence[Call]) -> bool:
    return reply.whole and (reply.answer["exposure_logged"] or "user_id" not in calls[reply.call].body)


async def _references(place: Place, calls: Sequence[Call]) -> dict[Key, Ranked]:
    """What each version answers to each call, with both heads, and with the other's quota when one is missing."""
    references = {}
    alphas = {"": None, HEADS[1]: 100, HEADS[0]: 0}  # what is missing -> alpha that does without it
    async with session() as http:
        for version in ("2", "1"):
            await asyncio.to_thread(place.promote, version)
            for number, call in enumerate(calls):
                for missing, alpha in alphas.items():
                    asked = Call(call.path, {**call.body, "alpha": alpha})
                    reply = await _whole(http, place.served.url, asked, version)
                    references[number, version, missing] = ranked(reply.answer)
    if all(references[n, "1", ""] == references[n, "2", ""] for n in range(len(calls))):
        raise UserError("both versions answer the same: a mixture of them would not be seen.")
    return references


async def _whole(http: Any, url: str, call: Call, version: str) -> Reply:
    """The answer of that version and both heads, however long it takes to come to it."""
    end = time.monotonic() + PATIENCE
    while True:
        reply = await ask(http, url, call)
        if reply.whole and reply.answer["model_version"] == version:
            return reply
        if time.monotonic() > end:
            raise UserError(
                f"no whole answer of version {version} within {PATIENCE:g} s: {reply.status} {reply.answer}"
            )
        await asyncio.sleep(0.05)


def _in_log(place: Place) -> set[str]:
    """request_ids of the exposures that are on disk."""
    logged = read(place.disk / "log", place.disk / "nothing").exposures
    return set(logged.select("request_id").distinct().to_pyarrow()["request_id"].to_pylist())


def _exchanged(run: Path, out: Path) -> Path:
    """The version of `run` with its heads exchanged: the same files, other answers."""
    retriever = out / "retriever"
    shutil.copytree(run / "retriever", retriever)
    for kind in ("npy", "faiss"):
        one, other = (retriever / f"{head}.{kind}" for head in HEADS)
        one.rename(retriever / "draft")
        other.rename(one)
        (retriever / "draft").rename(other)
    (retriever / MANIFEST).unlink()
    write_manifest(retriever, {"path": "synthetic", "fingerprint": "exchanged", "split_time": ""})
    return out


def _tell(rows: Sequence[Row], place: Place) -> None:
    columns = ["requests", "degraded", "logged", *ZEROS, "recovery_s"]
    width = max(len(row.fault) for row in rows)
    print(f"  {'fault':{width}} " + " ".join(f"{name:>14}" for name in columns) + "  statuses")
    for row in rows:
        told = " ".join(f"{getattr(row, name):14,}" for name in columns)
        print(f"  {row.fault:{width}} {told}  " + ", ".join(f"{s}: {n:,}" for s, n in row.statuses.items()))
    for line in place.undeclared[:20]:
        print(f"  {line}")
    wrong = sum(getattr(row, name) for row in rows for name in ZEROS)
    details = {
        "baseline": "requests; the value is all that must be 0, over all faults",
        "items": ITEMS,
        "log": f"on a disk of its own: {place.is_disk}",
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    write("faults", wrong, "of what must be 0", sum(row.requests for row in rows), details)
