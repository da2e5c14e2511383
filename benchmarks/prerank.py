"""What the preranker adds: each head's candidates ranked by similarity, by the mixture, by the preranker, and together.

Reads the folders named in MTMH_BENCH_DATA (default: ../shared/data/yelp2019 and ../shared/data/amazon-beauty), three
seeds each, validation tail of T1, and writes one result a folder, prerank_<folder>.json, with mean, least and most of
every figure. Heads and preranker are trained once a seed; the rankings are of the same candidates.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import SEEDS, folders
from benchmarks.result import spread, write
from benchmarks.trials import config_of
from mtmh.config import Config
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.heads import HEADS
from mtmh.retrieval.fast_pool import pool_users
from mtmh.retrieval.merge import quotas_at
from mtmh.retrieval.retriever import Pool, Request, Retriever, candidate_logits, merge_pools, prerank
from pipelines.trial import scratch, version

SHOWN = ("recall_at_20", "recall_at_100", "recall_at_500", "l2_relevance", "cold_recall_at_500")
SHARPNESS = 100  # sum of exp(SHARPNESS * cosine) over the triggers: the nearest trigger decides


def main() -> None:
    """Train, rank, compare."""
    for data in folders():
        _write(data.resolve().name, [_seed(data, seed) for seed in SEEDS])


def joint(engagement: Pool, relevance: Pool, size: int) -> Pool:
    """All candidates of both heads in one list by their scores, the first `size`; what both offer stands once.

    This is what the paper warns of: nothing keeps a place for the relevance head.
    """
    both = [np.concatenate(pair, axis=1) for pair in zip(_columns(engagement), _columns(relevance), strict=True)]
    best = np.argsort(-both[1], axis=1, kind="stable")
    item, score, trigger, head = (np.take_along_axis(column, best, axis=1) for column in both)
    by_item = np.argsort(item, axis=1, kind="stable")
    ordered = np.take_along_axis(item, by_item, axis=1)
    again = np.zeros(item.shape, bool)
    np.put_along_axis(again, by_item[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    first = np.argsort(again | (item < 0), axis=1, kind="stable")[:, :size]
    return Pool(*(np.take_along_axis(column, first, axis=1) for column in (item, score, trigger, head)))


def lost(merged: Pool, together: Pool) -> float:
    """Share of the relevance head's candidates in the merged lists that the joint lists do not hold."""
    from_relevance = merged.channel == HEADS.index("relevance")
    stride = int(merged.item.max()) + 1
    user = np.arange(len(merged.item))[:, None] * stride
    kept = np.isin((user + merged.item)[from_relevance], (user + together.item)[together.item >= 0])
    return float(1 - kept.mean())


def _seed(data: Path, seed: int) -> dict[str, Any]:
    """Figures of one seed: {ranking: {list: {metric: value}}} and the share lost."""
    config = config_of(data, ("prerank.use=true",), seed)
    with version(str(data), config, scratch(str(data))) as (prepared, content, built):
        test = Test.of(
            Prepared.load(prepared),
            np.load(content / "content.npy"),
            config.retrieval.triggers,
            config.evaluation.fresh_hours,
        )
        retriever = Retriever.load(built)
    size, alpha = config.retrieval.pool, config.retrieval.alpha
    found: dict[str, Any] = {}
    together: dict[str, Pool] = {}
    for ranking, pools, scored in _rankings(retriever, test, config):
        merged = merge_pools(list(pools.values()), quotas_at(alpha, list(pools)), size)
        lists = {**{f"{head}_head": pool for head, pool in pools.items()}, f"merged_alpha_{alpha}": merged}
        if scored:
            lists["joint"] = together[ranking] = joint(scored["engagement"], scored["relevance"], size)
        found[ranking] = {name: _figures(pool, test) for name, pool in lists.items()}
        for name, figures in found[ranking].items():
            shown = "  ".join(f"{metric} {100 * value:.2f}" for metric, value in figures.items())
            print(f"  seed {seed}  {ranking:20} {name:16} {shown}", flush=True)
    found["lost"] = {ranking: lost(merged, pool) for ranking, pool in together.items()}  # of the last, served merge
    return found


def _rankings(version: Retriever, test: Test, config: Config) -> Iterator[tuple[str, dict[str, Pool], dict[str, Pool]]]:
    """What ranks; each head's first `retrieval.pool` candidates of every test user; where the preranker has a say, all
    candidates with scores that are comparable between the heads. The last ranking is the one that serves."""
    retrieval, ranker = config.retrieval, version.preranker
    assert ranker is not None
    k_ann, deep = min(retrieval.k_ann, len(version.items) - 1), version.depth(retrieval.pool)
    plain = replace(version, preranker=None)
    yield "nearest trigger", {head: _nearest(plain, test, head, k_ann, retrieval.pool) for head in HEADS}, {}
    mixture = plain.pools(replace(Request.of(test.triggers, test.seen, retrieval), size=deep))
    yield "mixture", {head: _cut(pool, retrieval.pool) for head, pool in mixture.items()}, {}
    scored = {head: candidate_logits(ranker, test.triggers, pool.item) for head, pool in mixture.items()}
    even = {head: replace(pool, score=np.where(pool.item >= 0, 1, -np.inf)) for head, pool in mixture.items()}
    for name, pools in (("preranker alone", even), ("mixture x preranker", mixture)):
        ranked = {head: prerank(pool, scored[head], retrieval.pool) for head, pool in pools.items()}
        yield name, ranked, {head: _scored(pool, scored[head]) for head, pool in pools.items()}


def _scored(pool: Pool, logits: np.ndarray) -> Pool:
    known = np.log(np.maximum(pool.score, np.finfo(np.float32).tiny))
    return replace(pool, score=np.where(pool.item >= 0, known + logits, -np.inf))


def _nearest(version: Retriever, test: Test, head: str, k_ann: int, size: int) -> Pool:
    distinct = np.unique(test.triggers.values)
    list_of = np.full(len(version.items), -1, dtype=np.int64)
    list_of[distinct] = np.arange(len(distinct))
    ids, cosine = version.similar_items(distinct, k_ann, head)
    votes = np.exp(SHARPNESS * (cosine.astype(np.float64) - 1)).clip(np.finfo(np.float32).tiny).astype(np.float32)
    pool = pool_users(test.triggers, test.seen, list_of, ids, cosine, votes, size)
    return Pool(*pool, np.where(pool[0] >= 0, HEADS.index(head), -1).astype(np.int8))


def _write(name: str, seeds: list[dict[str, Any]]) -> None:
    lists = {
        f"{ranking}: {one}": {
            metric: spread([seed[ranking][one][metric] for seed in seeds]) for metric in seeds[0][ranking][one]
        }
        for ranking in seeds[0]
        if ranking != "lost"
        for one in seeds[0][ranking]
    }
    lost_shares = {ranking: spread([one["lost"][ranking] for one in seeds]) for ranking in seeds[0]["lost"]}
    merged = next(name for name in seeds[0]["mixture"] if name.startswith("merged"))
    with_, without = (
        lists[f"{ranking}: {merged}"]["recall_at_20"]["mean"] for ranking in ("mixture x preranker", "mixture")
    )
    details = {"seeds": SEEDS, "lists": lists, "relevance candidates lost by a joint ranking": lost_shares}
    write(f"prerank_{name}", with_, "recall@20 of the merge, mean of 3 seeds", without, details)
    print("  percent, mean [least, most]; baseline: without the preranker")
    for title, figures in lists.items():
        print(f"  {title:38} " + "  ".join(f"{metric} {_percent(figure)}" for metric, figure in figures.items()))
    for ranking, share in lost_shares.items():
        print(f"  relevance candidates of the merge lost by ranking all together, {ranking}: {_percent(share)}")


def _figures(pool: Pool, test: Test) -> dict[str, float]:
    told = summary(measure(pool, test), pool, test)
    return {metric: value for metric in SHOWN if (value := told[metric]) is not None}


def _cut(pool: Pool, size: int) -> Pool:
    return Pool(*(column[:, :size] for column in _columns(pool)))


def _columns(pool: Pool) -> tuple[np.ndarray, ...]:
    return pool.item, pool.score, pool.trigger, pool.channel


def _percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['mean']:5.2f} [{100 * figure['min']:.2f}, {100 * figure['max']:.2f}]"
