"""The served path beside what it is made of: equal answers, and what the router, Triton and both
cost.

On a version of the synthetic world with random vectors, or on the run of `--run`. `mtmh serve` runs
as a process of its own; requests name no user, so no exposure is logged.

Equal: for 1,000 random triggers, the router's list of each head, as /v1/similar and as /v1/retrieve
with alpha 100 and 0, against the offline retriever's. Each time has its baseline, asked in turns
with it by one asynchronous client loop: the two head ensembles called directly over gRPC, or, for
50 triggers, Faiss searches and preranking of the same in this process, a thread a head. Told are
medians over the turns. Exits 1 when an answer differs.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import aiohttp
import faiss
import numpy as np
import typer
import uvloop

from benchmarks.load import Call, Ranked, ask, differing, ranked, session
from benchmarks.random_version import Items, make_run
from benchmarks.result import write
from benchmarks.server_process import FOLDER, Cost, RunningServer, make_store, serve
from benchmarks.serving_paths import K, Work, by_router, by_triton, in_process
from mtmh.config import RetrievalSettings
from mtmh.ragged import Ragged
from mtmh.retrieval import query as offline
from mtmh.retrieval.retriever import Request, Retriever
from mtmh.retrieval.version import retrieval_settings, verify
from serving.router.heads import connect
from serving.router.package import Package
from serving.triton.store import promote

TRIGGERS, WIDTH = 1000, 500  # random triggers; candidates asked for equality
# Turns and requests in each; lanes, their turns and seconds; starts of the server.
TURNS, REQUESTS, LANES, LANE_TURNS, LANE_SECONDS, STARTS = 7, 200, 8, 21, 1.0, 3
ALPHAS = {"engagement": 100, "relevance": 0}
Figures = dict[str, float]


def main(
    items: Items = 100_000,
    run: Annotated[
        Path | None, typer.Option(help="A run or a retriever directory in place of the random one.")
    ] = None,
) -> None:
    """Times and CPU of the router beside both head ensembles called directly; are its lists the
    offline ones?"""
    version = run or make_run(items, FOLDER)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="serving-", dir=FOLDER) as folder:
        store = make_store(Path(folder), {"1": version}, None)
        promote(store, "1")
        starts = []
        for _ in range(STARTS - 1):
            with serve(Path(folder)) as served:
                starts.append(served.seconds)
        with serve(Path(folder)) as served:
            starts.append(served.seconds)
            retriever, settings = offline.load(version), retrieval_settings(version)
            details, wrong = uvloop.run(_measure(served, retriever, settings))
    details["start_to_ready_s"] = round(statistics.median(starts), 2)
    # A run of one's own has a result of its own, by the name of its data.
    name = "serving"
    if run:
        retriever_folder = run / "retriever" if (run / "retriever").is_dir() else run
        name = f"serving_{Path(verify(retriever_folder)['created_from']['path']).name}"
    single = details["one_trigger"]
    router, direct = single["router"]["p50_ms"], single["ensembles"]["p50_ms"]
    write(name, router, "ms p50 of the router, one trigger", direct, details)
    for title, figures in details.items():
        print(f"  {title}: {figures}")
    if wrong:
        sys.exit(f"{wrong} items of the served answers are not the offline retriever's")


async def _measure(
    served: RunningServer, retriever: Retriever, settings: RetrievalSettings
) -> tuple[dict[str, Any], int]:
    """The details of the result, and how many items differ."""
    probes = {}
    for head, index in retriever.indexes.items():
        inverted = faiss.extract_index_ivf(index)
        probes[head] = f"nprobe {inverted.nprobe} of {inverted.nlist}"
    details: dict[str, Any] = {
        "baseline": "the two head ensembles called directly over gRPC, in parallel",
        "items": len(retriever.items),
        "k_ann": settings.k_ann,
        "k": K,
        "index": probes,
    }
    ids = retriever.items["item_id"].to_pylist()
    rng = np.random.default_rng(0)
    package = Package.load(served.store / "versions" / "1")
    async with session() as http, connect(served.triton_url) as triton:
        triggers = rng.permutation(len(ids))[:TRIGGERS].astype(np.int32)
        details["differing_items"] = await _compare(http, served.url, retriever, settings, triggers)
        # One trigger: what the router adds to the ensembles that it calls.
        works = {"router": by_router(http, served.url), "ensembles": by_triton(triton, package)}
        single = [[ids[row]] for row in rng.integers(len(ids), size=REQUESTS)]
        details["one_trigger"], details["cpu_ms_a_request"] = await in_turns(served, works, single)
        rates = await _throughput(works, single)
        details["at_concurrency_8"] = {
            name: round(statistics.median(rate), 1) for name, rate in rates.items()
        }
        # Many triggers: beside the same searches in this process, without a server.
        count = min(settings.triggers, len(ids) // 2)
        many = [
            [ids[row] for row in rng.permutation(len(ids))[:count]] for _ in range(REQUESTS // 4)
        ]
        works |= in_process(retriever, settings)
        details[f"{count}_triggers"], _ = await in_turns(served, works, many)
    details["ratios"] = _ratios(details, rates, details[f"{count}_triggers"])
    return details, sum(details["differing_items"].values())


def _ratios(
    details: dict[str, Any], rates: dict[str, list[float]], many: dict[str, Figures]
) -> dict[str, Any]:
    """What is asked of the router. Throughputs are compared turn by turn: from one to the next the
    machine changes."""
    single = details["one_trigger"]
    of_turns = [
        router / direct for router, direct in zip(rates["router"], rates["ensembles"], strict=True)
    ]
    # The quartiles say how far the median can be trusted.
    least, half, most = np.quantile(of_turns, [0.25, 0.5, 0.75]).round(3).tolist()
    return {
        "one_trigger_router_minus_ensembles_ms": round(
            single["router"]["p50_ms"] - single["ensembles"]["p50_ms"], 3
        ),
        "throughput_router_of_ensembles": half,
        "throughput_router_of_ensembles_quartiles": [least, most],
        # Against the searches alone: what serving adds to work that nobody can avoid.
        **{
            f"many_triggers_{name}_of_raw": round(many[name]["p50_ms"] / many["raw"]["p50_ms"], 3)
            for name in many
            if name != "raw"
        },
    }


async def _compare(
    http: aiohttp.ClientSession,
    url: str,
    retriever: Retriever,
    settings: RetrievalSettings,
    triggers: np.ndarray,
) -> dict[str, int]:
    """{call and head: how many items differ} over the triggers."""
    ids = np.array(retriever.items["item_id"].to_pylist(), object)
    k = min(WIDTH, len(ids) - 1)
    one_each = Ragged(np.arange(len(triggers) + 1, dtype=np.int64), triggers)
    request = replace(Request.of(one_each, one_each, settings), size=max(settings.pool, k))
    pools = retriever.pools(request)
    results = {}
    for head in retriever.indexes:
        similar = retriever.similar_items(triggers, min(max(2 * k, 50), len(ids) - 1), head)
        # Both ways to a head's own list must give what the library gives.
        rights = {"similar": similar, "retrieve": (pools[head].item, pools[head].score)}
        for call, (item, score) in rights.items():
            wrong = 0
            for row, trigger in enumerate(ids[triggers]):
                body = {"item_id": trigger} if call == "similar" else {"triggers": [trigger]}
                reply = await ask(
                    http, url, Call(f"/v1/{call}", {**body, "k": k, "alpha": ALPHAS[head]})
                )
                ranks = np.flatnonzero(item[row, :k] >= 0)
                names = [f"{head} {name}" for name in ids[item[row, ranks]]]
                right: Ranked = names, score[row, ranks].astype(np.float64)
                wrong += differing(ranked(reply.answer), right) if reply.status == 200 else k
            results[f"{call} {head}"] = wrong
            print(
                f"  {call}, {head} head: {wrong} of {len(triggers) * k:,} items differ", flush=True
            )
    return results


async def in_turns(
    served: RunningServer, works: dict[str, Work], requests: Sequence[Sequence[str]]
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """p50 and p99 of each work, medians over the turns; and the CPU time of a request, router's and
    Triton's."""
    # A turn that does not count, so that caches are as they will be.
    for work in works.values():
        for request in requests:
            await work(request)
    cuts: dict[str, list[list[float]]] = {name: [] for name in works}
    spent: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in works}
    for _ in range(TURNS):
        for name, work in works.items():
            before, seconds = served.cost(), []
            for request in requests:
                start = time.perf_counter()
                await work(request)
                seconds.append(time.perf_counter() - start)
            spent[name].append((before, served.cost()))
            cuts[name].append(np.quantile(seconds, [0.5, 0.99]).tolist())
    times = {}
    for name, quantiles in cuts.items():
        p50, p99 = np.median(quantiles, axis=0) * 1e3
        times[name] = {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}
    # CPU time is what the processes used over all turns: one turn is too short to tell.
    cpu, count = {}, TURNS * len(requests)
    for name, pairs in spent.items():
        router = sum(after.router_cpu - before.router_cpu for before, after in pairs)
        triton = sum(after.triton_cpu - before.triton_cpu for before, after in pairs)
        cpu[name] = {
            "router": round(1e3 * router / count, 3),
            "triton": round(1e3 * triton / count, 3),
        }
    return times, cpu


async def _throughput(
    works: dict[str, Work], requests: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
    """Requests a second of each work with LANES at a time, in each of many short turns."""
    results: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(LANE_TURNS):
        for name, work in works.items():
            end, done = time.perf_counter() + LANE_SECONDS, 0

            # Bound as defaults: work and end are those of this turn.
            async def lane(number: int, work: Work = work, end: float = end) -> int:
                count = 0
                while time.perf_counter() < end:
                    # Every lane has its own share of the requests.
                    await work(requests[(number + LANES * count) % len(requests)])
                    count += 1
                return count

            start = time.perf_counter()
            done = sum(await asyncio.gather(*map(lane, range(LANES))))
            # Over the real time: lanes finish what they have begun after the end.
            results[name].append(done / (time.perf_counter() - start))
    return results
