"""The served path beside what it is made of: equal answers, and what the router, Triton and both cost.

On an untrained run of the synthetic world at MTMH_BENCH_ITEMS (default 100,000) items, or on the run that
MTMH_BENCH_RUN names. `mtmh serve` runs as a process of its own; requests name no user, so no exposure is logged.

Equal: for 1,000 random triggers, the router's list of each head, as /v1/similar and as /v1/retrieve with alpha 100 and
0, against the offline retriever's. Each time has its baseline, asked in turns with it by one asynchronous client loop:
the two head ensembles called directly over gRPC, or, for 50 triggers, Faiss searches and preranking of the same in this
process, a thread a head. Told are medians over the turns. Exits 1 when an answer differs.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import faiss
import numpy as np
import torch
import uvloop
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.judge import Ranked, differing, ranked
from benchmarks.load import Call, ask, session
from benchmarks.result import write
from benchmarks.served import FOLDER, Cost, Served, make_store, serve
from benchmarks.untrained import make_run
from mtmh.config import RetrievalSettings
from mtmh.ragged import Ragged
from mtmh.retrieval import query as offline
from mtmh.retrieval.retriever import Pool, Request, Retriever, candidate_logits, prerank
from mtmh.retrieval.version import verify
from serving.router.heads import connect, inputs_of
from serving.router.package import Package
from serving.triton.store import promote

ITEMS, RUN = int(os.environ.get("MTMH_BENCH_ITEMS", "100000")), os.environ.get("MTMH_BENCH_RUN")
TRIGGERS, K, WIDTH = 1000, 50, 500  # random triggers; candidates asked for speed, and for equality
TURNS, REQUESTS, LANES, LANE_TURNS, LANE_SECONDS, STARTS = 7, 200, 8, 21, 1.0, 3
ALPHAS = {"engagement": 100, "relevance": 0}
Work = Callable[[Sequence[str]], Awaitable[None]]
Figures = dict[str, float]


def main() -> None:
    """Serve version 1 and measure it."""
    run = Path(RUN) if RUN else make_run(ITEMS, FOLDER)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="serving-", dir=FOLDER) as folder:
        store = make_store(Path(folder), {"1": run}, None)
        promote(store, "1")
        starts = []
        for _ in range(STARTS - 1):
            with serve(Path(folder)) as served:
                starts.append(served.seconds)
        with serve(Path(folder)) as served:
            starts.append(served.seconds)
            retriever, settings = offline.load(run), offline.retrieval_settings(run)
            details, wrong = uvloop.run(_measure(served, retriever, settings))
    details["start_to_ready_s"] = round(statistics.median(starts), 2)
    name = f"serving_{_data_name(run)}" if RUN else "serving"
    router, direct = details["one_trigger"]["router"]["p50_ms"], details["one_trigger"]["ensembles"]["p50_ms"]
    write(name, router, "ms p50 of the router, one trigger", direct, details)
    for title, figures in details.items():
        print(f"  {title}: {figures}")
    if wrong:
        sys.exit(f"{wrong} items of the served answers are not the offline retriever's")


async def _measure(served: Served, retriever: Retriever, settings: RetrievalSettings) -> tuple[dict[str, Any], int]:
    """The details of the result, and how many items differ."""
    details: dict[str, Any] = {
        "baseline": "the two head ensembles called directly over gRPC, in parallel",
        "items": len(retriever.items),
        "k_ann": settings.k_ann,
        "k": K,
        "index": {head: _probes(index) for head, index in retriever.indexes.items()},
    }
    ids = retriever.items["item_id"].to_pylist()
    rng = np.random.default_rng(0)
    package = Package.load(served.store / "versions" / "1")
    async with session() as http, connect(served.triton_url) as triton:
        triggers = rng.permutation(len(ids))[:TRIGGERS].astype(np.int32)
        details["differing_items"] = await _compare(http, served.url, retriever, settings, triggers)
        works = {"router": _by_router(http, served.url), "ensembles": _by_triton(triton, package)}
        one = [[ids[row]] for row in rng.integers(len(ids), size=REQUESTS)]
        details["one_trigger"], details["cpu_ms_a_request"] = await _in_turns(served, works, one)
        rates = await _throughput(works, one)
        details["at_concurrency_8"] = {name: round(statistics.median(rate), 1) for name, rate in rates.items()}
        count = min(settings.triggers, len(ids) // 2)
        many = [[ids[row] for row in rng.permutation(len(ids))[:count]] for _ in range(REQUESTS // 4)]
        works |= _in_process(retriever, settings)
        details[f"{count}_triggers"], _ = await _in_turns(served, works, many)
    details["ratios"] = _ratios(details, rates, details[f"{count}_triggers"])
    return details, sum(details["differing_items"].values())


def _ratios(details: dict[str, Any], rates: dict[str, list[float]], many: dict[str, Figures]) -> dict[str, Any]:
    """What is asked of the router. Throughputs are compared turn by turn: from one to the next the machine changes."""
    one = details["one_trigger"]
    of_turns = [router / direct for router, direct in zip(rates["router"], rates["ensembles"], strict=True)]
    least, half, most = np.quantile(of_turns, [0.25, 0.5, 0.75]).round(3).tolist()
    return {
        "one_trigger_router_minus_ensembles_ms": round(one["router"]["p50_ms"] - one["ensembles"]["p50_ms"], 3),
        "throughput_router_of_ensembles": half,
        "throughput_router_of_ensembles_quartiles": [least, most],
        **{
            f"many_triggers_{name}_of_raw": round(many[name]["p50_ms"] / many["raw"]["p50_ms"], 3)
            for name in many
            if name != "raw"
        },
    }


async def _compare(
    http: aiohttp.ClientSession, url: str, retriever: Retriever, settings: RetrievalSettings, triggers: np.ndarray
) -> dict[str, int]:
    """{call and head: how many items differ} over the triggers."""
    ids = np.array(retriever.items["item_id"].to_pylist(), object)
    k = min(WIDTH, len(ids) - 1)
    one_each = Ragged(np.arange(len(triggers) + 1, dtype=np.int64), triggers)
    request = replace(Request.of(one_each, one_each, settings), size=max(settings.pool, k))
    pools = retriever.pools(request)
    found = {}
    for head in retriever.indexes:
        similar = retriever.similar_items(triggers, min(max(2 * k, 50), len(ids) - 1), head)
        rights = {"similar": similar, "retrieve": (pools[head].item, pools[head].score)}
        for call, (item, score) in rights.items():
            wrong = 0
            for row, trigger in enumerate(ids[triggers]):
                asked = {"item_id": trigger} if call == "similar" else {"triggers": [trigger]}
                reply = await ask(http, url, Call(f"/v1/{call}", {**asked, "k": k, "alpha": ALPHAS[head]}))
                there = np.flatnonzero(item[row, :k] >= 0)
                names = [f"{head} {name}" for name in ids[item[row, there]]]
                right: Ranked = names, score[row, there].astype(np.float64)
                wrong += differing(ranked(reply.answer), right) if reply.status == 200 else k
            found[f"{call} {head}"] = wrong
            print(f"  {call}, {head} head: {wrong} of {len(triggers) * k:,} items differ", flush=True)
    return found


def _by_router(http: aiohttp.ClientSession, url: str) -> Work:
    async def work(triggers: Sequence[str]) -> None:
        reply = await ask(http, url, Call("/v1/retrieve", {"triggers": list(triggers), "k": K}))
        assert reply.whole, reply

    return work


def _by_triton(triton: InferenceServerClient, package: Package) -> Work:
    """Both ensembles in parallel, with what the router gives them."""
    outputs = [InferRequestedOutput(name) for name in ("item", "score", "trigger_at", "cold")]

    async def one(model: str, inputs: list[InferInput]) -> None:
        result = await triton.infer(model, inputs, outputs=outputs)
        assert result.as_numpy("item")[0, 0] >= 0

    async def work(triggers: Sequence[str]) -> None:
        inputs = inputs_of(package, dict.fromkeys(triggers), triggers, package.serving["k_ann"])
        await asyncio.gather(*(one(f"retrieve_{head}_{package.number}", inputs) for head in package.heads))

    return work


def _in_process(retriever: Retriever, settings: RetrievalSettings) -> dict[str, Work]:
    """Faiss searches and preranking alone as "raw"; Retriever.pool, which also pools, as "offline". A thread a head."""
    row_of = {item: row for row, item in enumerate(retriever.items["item_id"].to_pylist())}
    threads = ThreadPoolExecutor(len(retriever.indexes), initializer=_alone)
    preranker, pools = retriever.preranker, dict[tuple[str, ...], dict[str, Pool]]()

    def request(triggers: Sequence[str]) -> Request:
        history = Ragged.of([[row_of[item] for item in triggers]])
        return Request.of(history, history.sorted(), settings)

    def pool(head: str, triggers: Sequence[str]) -> Pool:
        return retriever.pools(request(triggers), channels=[head])[head]

    def raw(head: str, triggers: Sequence[str]) -> None:
        history, depth = request(triggers).triggers, min(settings.k_ann, len(retriever.items) - 1)
        retriever.indexes[head].search(retriever.vectors[head][history.values], depth + 1)
        if preranker is not None:
            candidates = pools[tuple(triggers)][head]
            prerank(candidates, candidate_logits(preranker, history, candidates.item), settings.pool)

    def unranked(head: str, triggers: Sequence[str]) -> Pool:
        deep = replace(request(triggers), size=retriever.depth(settings.pool))
        return replace(retriever, preranker=None).pools(deep, channels=[head])[head]

    def both(one: Callable[[str, Sequence[str]], object]) -> Work:
        async def work(triggers: Sequence[str]) -> None:
            for done in [threads.submit(one, head, triggers) for head in retriever.indexes]:
                done.result()

        return work

    def prepared(one: Work) -> Work:
        async def work(triggers: Sequence[str]) -> None:
            if tuple(triggers) not in pools:  # in the turn that does not count
                pools[tuple(triggers)] = {head: unranked(head, triggers) for head in retriever.indexes}
            await one(triggers)

        return work

    return {"raw": prepared(both(raw)), "offline": both(pool)}


def _alone() -> None:
    """One thread a head, as Triton has it on two cores."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)


async def _in_turns(
    served: Served, works: dict[str, Work], requests: Sequence[Sequence[str]]
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """p50 and p99 of each work, medians over the turns; and the CPU time of a request, router's and Triton's."""
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
    for name, found in cuts.items():
        p50, p99 = np.median(found, axis=0) * 1e3
        times[name] = {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}
    asked = TURNS * len(requests)
    return times, {name: _cpu(pairs, asked) for name, pairs in spent.items()}


def _cpu(pairs: list[tuple[Cost, Cost]], requests: int) -> Figures:
    router = sum(after.router_cpu - before.router_cpu for before, after in pairs)
    triton = sum(after.triton_cpu - before.triton_cpu for before, after in pairs)
    return {"router": round(1e3 * router / requests, 3), "triton": round(1e3 * triton / requests, 3)}


async def _throughput(works: dict[str, Work], requests: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Requests a second of each work with LANES at a time, in each of many short turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(LANE_TURNS):
        for name, work in works.items():
            end, done = time.perf_counter() + LANE_SECONDS, 0

            async def lane(number: int, work: Work = work, end: float = end) -> int:
                count = 0
                while time.perf_counter() < end:
                    await work(requests[(number + LANES * count) % len(requests)])
                    count += 1
                return count

            start = time.perf_counter()
            done = sum(await asyncio.gather(*map(lane, range(LANES))))
            found[name].append(done / (time.perf_counter() - start))
    return found


def _probes(index: faiss.Index) -> str:
    inverted = faiss.extract_index_ivf(index)
    return f"nprobe {inverted.nprobe} of {inverted.nlist}"


def _data_name(run: Path) -> str:
    retriever = run / "retriever" if (run / "retriever").is_dir() else run
    return Path(str(verify(retriever)["created_from"]["path"])).name
