"""What the study of quotas compares: requests with both heads' lists, and each strategy's merge.

On the validation tail of T1. Test users are dealt into two halves: what a strategy learns from
users of the tail it learns from one half, and it is measured on the other, both ways round. "past"
learns from requests before the tail: T1 without it, split once more, its last tenth as what came
next. The heads were trained on those events, so they find more of them than of new ones.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.studies.grids import Setting
from benchmarks.studies.quota_strategies import (
    AlphaRegression,
    AlphaTable,
    Quotas,
    cross_entropy_quotas,
    merge_each,
    request_features,
    snake_merge,
)
from benchmarks.studies.study import config_of
from mtmh.config import Config
from mtmh.data.clusters import cluster_by_vectors
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import Test, measure
from mtmh.evaluation.metrics import RECALL_AT, recall_at
from mtmh.heads import HEADS
from mtmh.retrieval.retriever import Pool, Request, Retriever, merge_pools
from mtmh.version_hash import code_version
from pipelines.trial import scratch, stages_before, version

ALPHAS = np.arange(0, 101, 10)
STRENGTH = 500.0  # of a table's prior, in users
CLUSTERS = 20  # of items, by content
PARTS = 4  # of a feature's values in a table's cells, equally many users in each
PAST_FRACTION = 0.1  # of the events before the tail: what came next
COLUMNS = ("item", "score", "trigger", "channel")
BEST, CEILING = "fixed alpha, best", "ceiling: each user's best alpha"


@dataclass(frozen=True)
class Given:
    """What a strategy's lists hold, of each user."""

    recall: np.ndarray  # float64 [U, len(RECALL_AT)]
    matches: np.ndarray  # int32 [U], candidates that share an L2 topic with their trigger
    retrieved: np.ndarray  # int32 [U]
    alpha: np.ndarray  # float64 [U]; NaN where a strategy has none

    @property
    def relevance(self) -> float:
        """L2 relevance over all users."""
        return float(self.matches.sum() / self.retrieved.sum())


Run = dict[str, Given]  # of one seed: strategy -> what it gives, fixed alphas among them


@dataclass(frozen=True)
class Requests:
    """Test users with both heads' lists, and what is known of each before the merge."""

    test: Test
    pools: list[Pool]  # of HEADS
    features: np.ndarray  # float64 [U, 4]
    cluster: np.ndarray  # int32 [U], of the newest trigger

    @property
    def size(self) -> int:
        """Of a merged list."""
        return self.pools[0].item.shape[1]

    def merged_at(self, alpha: np.ndarray) -> Given:
        """Each user merged at its own alpha, float [U]."""
        pool = merge_each(self.pools, np.stack([alpha, 100 - alpha], axis=1), self.size)
        return given(pool, self.test, alpha)

    @cached_property
    def fixed(self) -> dict[int, Given]:
        """All users at each of ALPHAS."""
        return {int(alpha): self.merged_at(np.full(len(self.features), alpha)) for alpha in ALPHAS}

    @cached_property
    def recall(self) -> np.ndarray:
        """Recall at the end of the list at each of ALPHAS, float64 [U, A]."""
        return np.stack([self.fixed[int(alpha)].recall[:, -1] for alpha in ALPHAS], axis=1)


def given(pool: Pool, test: Test, alpha: np.ndarray) -> Given:
    """The lists, measured. The data must have L2 topics."""
    metrics = measure(pool, test)
    assert metrics.l2_matches is not None
    return Given(metrics.recall, metrics.l2_matches, metrics.retrieved, alpha)


def compare(source: str, setting: Setting, seed: int) -> Run:
    """Every strategy on the tail, at one seed. Raises UserError as the stages do."""
    config = config_of(source, (*setting, "data.period=validation"), seed)
    tail, past = requests(source, config)
    run = {f"fixed alpha {alpha}": row for alpha, row in tail.fixed.items()}
    run["snake merge"] = snake(tail)
    # Both ways round: what is learned from a half is measured on the other.
    half = np.random.default_rng(seed).permutation(len(tail.features)) % 2
    alphas: dict[str, np.ndarray] = {}
    for measured in (0, 1):
        for name, alpha in learned(tail, past, np.flatnonzero(half != measured), seed):
            alphas.setdefault(name, np.zeros(len(half)))[half == measured] = alpha[half == measured]
    run |= {name: tail.merged_at(np.round(alpha)) for name, alpha in alphas.items()}
    for name, row in run.items():
        print(
            f"quotas: {name}: R@500 {100 * row.recall[:, -1].mean():.2f}, L2"
            f" {100 * row.relevance:.2f}, alpha {row.alpha.mean():.0f}",
            flush=True,
        )
    return run


def learned(
    tail: Requests, past: Requests, half: np.ndarray, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Each strategy's alpha of all users of the tail, float64 [U], learned from those in `half`."""
    users = len(tail.features)
    overall = tail.recall[half].mean(axis=0)
    best = float(ALPHAS[overall.argmax()])
    yield BEST, np.full(users, best)

    part = [Pool(*(getattr(pool, name)[half] for name in COLUMNS)) for pool in tail.pools]
    targets = tail.test.targets.take(half)

    def score(quotas: Quotas) -> float:
        merged = merge_pools(part, quotas, tail.size)
        return float(recall_at(merged.item, *targets, RECALL_AT[-1:]).mean())

    yield "cross-entropy method", np.full(users, cross_entropy_quotas(score, 2, seed)[0])
    for name, source, rows in (
        ("past", past, np.arange(len(past.features))),
        ("users", tail, half),
    ):
        features, recall = source.features[rows], source.recall[rows]
        # Cells of two features: the user's items, and the triggers' popularity.
        edges = np.quantile(features[:, :2], np.arange(1, PARTS) / PARTS, axis=0).T
        of_feature = [cells(features, edges), cells(tail.features, edges)]
        table = AlphaTable.fit(of_feature[0], recall, ALPHAS, PARTS**2, STRENGTH)
        yield f"table, items x popularity ({name})", table.of(of_feature[1])
        table = AlphaTable.fit(source.cluster[rows], recall, ALPHAS, CLUSTERS, STRENGTH)
        yield f"table, cluster ({name})", table.of(tail.cluster)
        # A mean of 0 or 100 leaves nothing to a request.
        heads = recall[:, -1], recall[:, 0]
        regression = AlphaRegression.fit(features, *heads, float(np.clip(best, 5, 95)))
        yield f"regression ({name})", regression.of(tail.features)
    # Of equal alphas the one that is nearest to the best of all.
    near = np.argsort(np.abs(ALPHAS - best), kind="stable")
    yield CEILING, ALPHAS[near][tail.recall[:, near].argmax(axis=1)].astype(float)


def cells(features: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The cell of each request by its first two features, int64 [U]; `edges` [2, PARTS - 1]."""
    first, second = (np.searchsorted(edges[column], features[:, column]) for column in (0, 1))
    return np.asarray(first * PARTS + second)


def snake(requests: Requests) -> Given:
    """The heads take turns."""
    merged = snake_merge([pool.item for pool in requests.pools], requests.size)
    columns = (("score", -np.inf), ("trigger", -1), ("channel", -1))
    values = (
        merged.take([getattr(pool, name) for pool in requests.pools], fill)
        for name, fill in columns
    )
    return given(Pool(merged.item, *values), requests.test, np.full(len(merged.item), np.nan))


def requests(source: str, config: Config) -> tuple[Requests, Requests]:
    """Of the tail and of the past before it."""
    folders = stages_before("train", source, config, scratch(source))
    data, content = Prepared.load(folders.prepared), np.load(folders.content / "content.npy")
    retrieval, hours = config.retrieval, config.evaluation.fresh_hours
    periods = {"tail": data, "past": past_of(data)}
    tests = {
        name: Test.of(period, content, retrieval.triggers, hours)
        for name, period in periods.items()
    }
    asking = {name: Request.of(test.triggers, test.seen, retrieval) for name, test in tests.items()}
    lists = retrieved(source, config, asking)
    clusters = cluster_by_vectors(content, CLUSTERS, config.seed).of_item
    both = []
    for name, test in tests.items():
        popularity, newest = periods[name].popularity, test.triggers.indptr[:-1]
        features = request_features(test.triggers, test.seen, popularity, content, lists[name])
        both.append(Requests(test, lists[name], features, clusters[test.triggers.values[newest]]))
    return both[0], both[1]


def past_of(data: Prepared) -> Prepared:
    """The events before the tail alone, the last PAST_FRACTION of them in the tail's place."""
    before = np.flatnonzero(data.is_train)
    events = {name: getattr(data, name)[before] for name in ("user", "item", "timestamp")}
    first = int(len(before) * (1 - PAST_FRACTION))
    return replace(data, **events, is_train=np.arange(len(before)) < first)


def retrieved(
    source: str, config: Config, requests: Mapping[str, Request]
) -> dict[str, list[Pool]]:
    """Both heads' lists of each of the requests; they stay in the scratch, and are read there."""
    work = scratch(source).resolve()
    recipe = json.dumps([config.model_dump(), code_version(), PAST_FRACTION])
    file = work / "quotas" / f"{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.npz"
    if not file.exists():
        arrays: dict[str, np.ndarray] = {}
        with version(source, config, work) as (_, _, built):
            retriever = Retriever.load(built)
        for name, request in requests.items():
            for head, pool in retriever.pools(request).items():
                arrays |= {f"{name}-{head}-{c}": getattr(pool, c) for c in COLUMNS}
        # Under its name only once it is whole.
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".unfinished")
        with draft.open("wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
        draft.rename(file)
    with np.load(file) as saved:
        return {
            name: [Pool(*(saved[f"{name}-{head}-{c}"] for c in COLUMNS)) for head in HEADS]
            for name in requests
        }
