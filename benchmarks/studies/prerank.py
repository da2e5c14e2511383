"""What the preranker adds: each head's candidates ranked by similarity, by the mixture, by the
preranker, and together.

Heads and preranker are trained once a seed, on the validation tail of T1; the rankings are of the
same candidates. "nearest trigger" ranks by the similarity to the nearest of the user's triggers,
"mixture" by p(candidate | user), "preranker alone" by its logit, "mixture x preranker" by both: the
last one serves. "joint" ranks the candidates of both heads in one list.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.result import spread
from benchmarks.studies.grids import DATA, SEEDS, Setting
from benchmarks.studies.study import (
    Data,
    Outcome,
    Seeds,
    Settings,
    Trials,
    config_of,
    lines,
    percent,
    run,
)
from mtmh.config import RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure, summary
from mtmh.heads import HEADS
from mtmh.retrieval.retriever import (
    Pool,
    Request,
    Retriever,
    candidate_logits,
    merge_pools,
    pool_users,
    prerank,
)
from pipelines.trial import Figures, scratch, version

SHARPNESS = 100  # so sharp that the nearest trigger decides
LOST = "lost"  # share of the merge's relevance candidates that a joint ranking drops
Pools = dict[str, Pool]  # head -> its lists


def main(data: Data = DATA, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Four rankings of the same candidates, and what one list for both heads would lose."""
    run("prerank", judge, data, seeds, settings, rank)


def rank(source: str, setting: Setting, seed: int) -> Figures:
    """{"ranking: list": its figures} of each head, the merge and the joint list; of the joint ones
    what they lose."""
    config = config_of(source, setting, seed)
    with version(source, config, scratch(source)) as (prepared, content, built):
        vectors = np.load(content / "content.npy")
        test = Test.of(
            Prepared.load(prepared),
            vectors,
            config.retrieval.triggers,
            config.evaluation.fresh_hours,
        )
        retriever = Retriever.load(built)
    size = config.retrieval.pool
    figures: Figures = {}
    together: Pools = {}  # ranking -> the list of both heads
    # Always the same candidates, so that only their order makes a difference.
    for ranking, pools, scored in rankings(retriever, test, config.retrieval):
        merged = merge_pools(list(pools.values()), retriever.quotas(config.retrieval.alpha), size)
        lists = {**{f"{head}_head": pool for head, pool in pools.items()}, "merged": merged}
        # One list of both heads needs scores that mean the same in both.
        if scored:
            lists["joint"] = together[ranking] = joint(
                scored["engagement"], scored["relevance"], size
            )
        for name, pool in lists.items():
            figures[f"{ranking}: {name}"] = summary(measure(pool, test), pool, test)
    for ranking, pool in together.items():
        figures[f"{ranking}: joint"][LOST] = lost(merged, pool)  # of the last merge, which serves
    return figures


def rankings(
    version: Retriever, test: Test, settings: RetrievalSettings
) -> Iterator[tuple[str, Pools, Pools]]:
    """What ranks; each head's first `retrieval.pool` candidates of every test user; where the
    preranker has a say, all candidates with scores that are comparable between the heads. The last
    ranking is the one that serves."""
    ranker, plain, size = version.preranker, replace(version, preranker=None), settings.pool
    assert ranker is not None
    k_ann, depth = min(settings.k_ann, len(version.items) - 1), version.depth(size)
    yield "nearest trigger", {head: _nearest(plain, test, head, k_ann, size) for head in HEADS}, {}
    mixture = plain.pools(replace(Request.of(test.triggers, test.seen, settings), size=depth))
    columns = ("item", "score", "trigger", "channel")
    yield (
        "mixture",
        {
            head: Pool(*(getattr(pool, c)[:, :size] for c in columns))
            for head, pool in mixture.items()
        },
        {},
    )
    logits = {
        head: candidate_logits(ranker, test.triggers, pool.item) for head, pool in mixture.items()
    }
    even = {
        head: replace(pool, score=np.where(pool.item >= 0, 1, -np.inf))
        for head, pool in mixture.items()
    }
    for name, pools in (("preranker alone", even), ("mixture x preranker", mixture)):
        ranked = {head: prerank(pool, logits[head], size) for head, pool in pools.items()}
        # Ranked all together, a head's score and the preranker's count as one: logs add up.
        together = {}
        for head, pool in pools.items():
            log_score = np.log(np.maximum(pool.score, np.finfo(np.float32).tiny)) + logits[head]
            score = np.where(pool.item >= 0, log_score, -np.inf)
            together[head] = replace(pool, score=score)
        yield name, ranked, together


def joint(engagement: Pool, relevance: Pool, size: int) -> Pool:
    """All candidates of both heads in one list by their scores, the first `size`; what both offer
    stands once.

    This is what the paper warns of: no place is reserved for the relevance head.
    """
    item, score, trigger, head = (
        np.concatenate([getattr(engagement, column), getattr(relevance, column)], axis=1)
        for column in ("item", "score", "trigger", "channel")
    )
    best = np.argsort(-score, axis=1, kind="stable")
    ordered = np.take_along_axis(item, best, axis=1)
    # What stands again further down, in the order of the items.
    by_item = np.argsort(ordered, axis=1, kind="stable")
    in_order = np.take_along_axis(ordered, by_item, axis=1)
    again = np.zeros(item.shape, bool)
    np.put_along_axis(again, by_item[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    first = np.argsort(again | (ordered < 0), axis=1, kind="stable")[:, :size]
    rows = np.take_along_axis(best, first, axis=1)
    return Pool(
        *(np.take_along_axis(column, rows, axis=1) for column in (item, score, trigger, head))
    )


def lost(merged: Pool, together: Pool) -> float:
    """Share of the relevance head's candidates in the merged lists that the joint lists do not
    hold."""
    from_relevance = merged.channel == HEADS.index("relevance")
    stride = int(merged.item.max()) + 1
    user = np.arange(len(merged.item))[:, None] * stride
    held = np.isin((user + merged.item)[from_relevance], (user + together.item)[together.item >= 0])
    return float(1 - held.mean())


def judge(trials: Trials) -> Outcome:
    """The served ranking beside the same without the preranker."""
    # This study has a single setting: what it compares are rankings within a run.
    ((setting, runs),) = trials.runs.items()
    table = trials.table(setting)
    # Only the joint lists have this figure: they are what may lose candidates of the merge.
    losses = {
        name: spread(trials.figures(setting, LOST, name))
        for name in runs[0]
        if LOST in runs[0][name]
    }
    shares = {name.removesuffix(": joint"): loss for name, loss in losses.items()}
    details = {
        "seeds": list(range(trials.seeds)),
        "lists": table,
        "relevance candidates lost by a joint ranking": shares,
    }
    text = ["  percent, mean [least, most]; baseline: without the preranker", *lines(table)]
    for ranking, share in shares.items():
        text.append(
            f"  relevance candidates of the merge lost by ranking all together,"
            f" {ranking}: {percent(share)}"
        )
    value, baseline = (
        table[f"{name}: merged"]["recall_at_20"]["mean"]
        for name in ("mixture x preranker", "mixture")
    )
    return Outcome(
        value, f"recall@20 of the merge, mean of {trials.seeds} seeds", baseline, details, text
    )


def _nearest(version: Retriever, test: Test, head: str, k_ann: int, size: int) -> Pool:
    """Ranked by the sum of exp(SHARPNESS * cosine) over the triggers."""
    distinct = np.unique(test.triggers.values)
    list_of = np.full(len(version.items), -1, dtype=np.int64)
    list_of[distinct] = np.arange(len(distinct))
    ids, cosine = version.similar_items(distinct, k_ann, head)
    votes = (
        np.exp(SHARPNESS * (cosine.astype(np.float64) - 1))
        .clip(np.finfo(np.float32).tiny)
        .astype(np.float32)
    )
    item, score, trigger = pool_users(test.triggers, test.seen, list_of, ids, cosine, votes, size)
    return Pool(item, score, trigger, np.where(item >= 0, HEADS.index(head), -1).astype(np.int8))
