"""The ways to the candidates that benchmarks/serving.py times: router, ensembles, this process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import aiohttp
import faiss
import torch
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.load import Call, ask
from mtmh.config import RetrievalSettings
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Pool, Request, Retriever, candidate_logits, prerank
from serving.router.heads import inputs_of
from serving.router.package import Package

K = 50  # candidates asked for
Work = Callable[[Sequence[str]], Awaitable[None]]


def by_router(http: aiohttp.ClientSession, url: str) -> Work:
    """A request to the router, answered in full."""

    async def work(triggers: Sequence[str]) -> None:
        reply = await ask(http, url, Call("/v1/retrieve", {"triggers": list(triggers), "k": K}))
        assert reply.whole, reply

    return work


def by_triton(triton: InferenceServerClient, package: Package) -> Work:
    """Both ensembles in parallel, with what the router gives them."""
    outputs = [InferRequestedOutput(name) for name in ("item", "score", "trigger_at", "cold")]

    async def infer(model: str, inputs: list[InferInput]) -> None:
        result = await triton.infer(model, inputs, outputs=outputs)
        assert result.as_numpy("item")[0, 0] >= 0

    async def work(triggers: Sequence[str]) -> None:
        inputs = inputs_of(package, dict.fromkeys(triggers), triggers, package.serving["k_ann"])
        await asyncio.gather(
            *(infer(f"retrieve_{head}_{package.number}", inputs) for head in package.channel_names)
        )

    return work


def in_process(retriever: Retriever, settings: RetrievalSettings) -> dict[str, Work]:
    """Faiss searches and preranking alone as "raw"; Retriever.pool, which also pools, as "offline".
    A thread a head."""
    row_of = {item: row for row, item in enumerate(retriever.items["item_id"].to_pylist())}
    # Side by side, as Triton runs the heads.
    threads = ThreadPoolExecutor(len(retriever.indexes), initializer=_alone)
    preranker, pools = retriever.preranker, dict[tuple[str, ...], dict[str, Pool]]()

    def request(triggers: Sequence[str]) -> Request:
        history = Ragged.of([[row_of[item] for item in triggers]])
        return Request.of(history, history.sorted(), settings)

    def pool(head: str, triggers: Sequence[str]) -> Pool:
        return retriever.pools(request(triggers), channels=[head])[head]

    def raw(head: str, triggers: Sequence[str]) -> None:
        history, depth = request(triggers).triggers, min(settings.k_ann, len(retriever.items) - 1)
        # One more, as the nearest item of a trigger is itself.
        retriever.indexes[head].search(retriever.vectors[head][history.values], depth + 1)
        if preranker is not None:
            # Pooled beforehand: raw is search and preranking alone.
            candidates = pools[tuple(triggers)][head]
            prerank(
                candidates, candidate_logits(preranker, history, candidates.item), settings.pool
            )

    def unranked(head: str, triggers: Sequence[str]) -> Pool:
        deep = replace(request(triggers), size=retriever.depth(settings.pool))
        return replace(retriever, preranker=None).pools(deep, channels=[head])[head]

    def both(pool_of: Callable[[str, Sequence[str]], object]) -> Work:
        async def work(triggers: Sequence[str]) -> None:
            for done in [threads.submit(pool_of, head, triggers) for head in retriever.indexes]:
                done.result()

        return work

    def prepared(raw_work: Work) -> Work:
        async def work(triggers: Sequence[str]) -> None:
            if tuple(triggers) not in pools:  # in the turn that does not count
                pools[tuple(triggers)] = {
                    head: unranked(head, triggers) for head in retriever.indexes
                }
            await raw_work(triggers)

        return work

    return {"raw": prepared(both(raw)), "offline": both(pool)}


def _alone() -> None:
    """One thread a head, as Triton has it on two cores."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
