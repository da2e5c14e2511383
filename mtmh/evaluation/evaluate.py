"""Stage evaluate: the paper's protocol on all test users, for heads, merges,
baselines and the champion (section 6).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.config import EvaluationSettings, RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.evaluation.baselines import content_pool, item_knn_pool, popularity_pool
from mtmh.evaluation.champion import champion_pool, is_of_other_data
from mtmh.evaluation.metrics import (
    RECALL_AT,
    coverage,
    intra_list_diversity,
    recall_at,
    recall_of,
    share_of,
    topic_matches,
)
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Pool, Request, Retriever, merge_pools

BASELINES = ("popularity", "itemknn", "content")


@dataclass(frozen=True)
class Test:
    """Test users with their triggers, what they had seen, and what they engaged with next."""

    users: np.ndarray  # int32 [U]
    triggers: Ragged
    seen: Ragged
    targets: Ragged
    l1_bits: np.ndarray | None  # uint64 [items, words]
    l2_bits: np.ndarray | None
    content: np.ndarray  # float32 [items, c]
    item_groups: dict[str, np.ndarray]  # "cold" and "fresh" -> bool [items]

    @classmethod
    def of(cls, data: Prepared, content: np.ndarray, triggers: int, fresh_hours: float) -> "Test":
        """Triggers are the last `triggers` distinct items of T1.

        Cold: no interaction in T1. Fresh: first there less than `fresh_hours` before the split.
        What is first there after the split is cold and not fresh, so that the two do not say the
        same thing twice; only an item that was created just before the split and that nobody
        engaged with by then is both.
        """
        users, targets = data.targets()
        history = data.train_histories()
        # In hours; far below 0 where it is unknown.
        age = (data.split_time() - data.born()).astype(np.float64) / 3.6e9
        return cls(
            users=users,
            triggers=history.take(users, triggers),
            seen=history.take(users),
            targets=targets,
            l1_bits=data.topic_bits("l1"),
            l2_bits=data.topic_bits("l2"),
            content=content,
            item_groups={"cold": ~data.in_train, "fresh": (age > 0) & (age < fresh_hours)},
        )


@dataclass(frozen=True)
class Sample:
    """Test users whose lists people can read, by the ids of the data."""

    rows: np.ndarray  # int64 [n], among the test users, ascending
    user_ids: pa.Array  # [n]
    item_ids: pa.Array  # of all items

    @classmethod
    def of(cls, data: Prepared, users: np.ndarray, size: int, seed: int) -> "Sample":
        """A seeded one of `size` of the test users, or all where there are fewer."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(users))[:size])
        table = pq.read_table(data.path / "interactions.parquet", columns=["user", "user_id"])
        # Any row of a user names it: the last one that is written stays.
        named = np.full(data.n_users, -1)
        named[table["user"].to_numpy()] = np.arange(len(table))
        user_ids = table["user_id"].combine_chunks().take(pa.array(named[users[rows]]))
        return cls(rows, user_ids, data.items["item_id"].combine_chunks())

    def candidates(self, model: str, pool: Pool, channels: Sequence[str]) -> pa.Table:
        """Rows model, user_id, rank, item_id, trigger_id, head, score of the users' lists.

        `channels`: names by their numbers in the pool.
        """
        row, column = np.nonzero(pool.item[self.rows] >= 0)
        user = self.rows[row]
        # Dictionaries, so that ten million ids are written as numbers and not hashed one by one.
        encode = pa.DictionaryArray.from_arrays
        head = pa.array(pool.channel[user, column])
        if model in BASELINES:  # they have no channels
            head = pa.nulls(len(row), pa.int8())
        return pa.table(
            {
                "model": encode(pa.array(np.zeros(len(row), dtype=np.int8)), pa.array([model])),
                "user_id": encode(pa.array(row.astype(np.int32)), self.user_ids),
                "rank": (column + 1).astype(np.int32),
                "item_id": encode(pa.array(pool.item[user, column]), self.item_ids),
                "trigger_id": encode(pa.array(pool.trigger[user, column]), self.item_ids),
                "head": encode(head, pa.array(channels)),
                "score": pool.score[user, column],
            }
        )


@dataclass(frozen=True)
class UserMetrics:
    """One model's metrics of each user; `summary` averages them over any part of the users."""

    recall: np.ndarray  # float64 [U, len(RECALL_AT)]
    recall_by_group: dict[str, np.ndarray]  # group -> float64 [U], see `recall_of`
    l1_matches: np.ndarray | None  # int32 [U]
    l2_matches: np.ndarray | None
    retrieved: np.ndarray  # int32 [U]


def evaluate(
    prepared: Path,
    content: Path,
    retriever: Path,
    champion: Path | None,
    out: Path,
    retrieval: RetrievalSettings,
    settings: EvaluationSettings,
    seed: int,
) -> None:
    """Write evaluation.json (models, sample, champion), candidates.parquet and
    users.npz (for the gate).

    Every model is ranked by the same protocol: lists of `retrieval.pool` items for all test users,
    without what they had engaged with in T1. candidates.parquet holds the lists of a seeded sample
    of `settings.sample_users` users.
    """
    data = Prepared.load(prepared)
    test = Test.of(data, np.load(content / "content.npy"), retrieval.triggers, settings.fresh_hours)
    sample = Sample.of(data, test.users, settings.sample_users, seed)
    version = Retriever.load(retriever)
    models: dict[str, Any] = {}
    sampled: dict[str, Any] = {}
    tables: list[pa.Table] = []
    for_gate: dict[str, np.ndarray] = {"n_items": np.array(data.n_items)}
    # One model at a time, so that only the channels' lists stay in memory.
    for name, pool in _pools(data, test, version, retrieval):
        metrics = measure(pool, test)
        models[name] = summary(metrics, pool, test)
        sampled[name] = summary(metrics, pool, test, sample.rows)
        tables.append(sample.candidates(name, pool, version.names))
        if name == f"merged_alpha_{retrieval.alpha}":
            for_gate |= _for_gate("challenger", metrics, pool)
        print(f"evaluate: {name}: {_line(models[name])}", flush=True)
    result: dict[str, Any] = {"models": models, "sample": sampled}
    # The champion sees the same users and triggers, and only items that it knows.
    if champion is not None and is_of_other_data(champion, data):
        result["other_data"] = True
        print(
            "evaluate: the champion is of other data (it knows none of the items): not compared",
            flush=True,
        )
    elif champion is not None:
        pool, identity = champion_pool(champion, data, test.triggers, test.seen, retrieval)
        metrics = measure(pool, test)
        for_gate |= _for_gate("champion", metrics, pool)
        result["champion"] = {**identity, **summary(metrics, pool, test)}
        print(f"evaluate: champion: {_line(result['champion'])}", flush=True)
    path, schema = out / "candidates.parquet", tables[0].schema
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as file:
        for table in tables:
            file.write_table(table)
    np.savez(out / "users.npz", allow_pickle=False, **for_gate)
    (out / "evaluation.json").write_text(json.dumps(result, indent=1))


def measure(pool: Pool, test: Test) -> UserMetrics:
    """All metrics that are means over users or over retrieved pairs."""

    def matches(bits: np.ndarray | None) -> np.ndarray | None:
        return None if bits is None else topic_matches(pool.item, pool.trigger, bits)

    return UserMetrics(
        recall=recall_at(pool.item, *test.targets, RECALL_AT),
        recall_by_group={
            group: recall_of(pool.item, *test.targets, chosen, RECALL_AT[-1])
            for group, chosen in test.item_groups.items()
        },
        l1_matches=matches(test.l1_bits),
        l2_matches=matches(test.l2_bits),
        retrieved=(pool.item >= 0).sum(axis=1).astype(np.int32),
    )


def summary(
    metrics: UserMetrics,
    pool: Pool,
    test: Test,
    rows: np.ndarray | None = None,
) -> dict[str, float | None]:
    """One model's row of the table, over all users or those at `rows`; None where
    the data has nothing to measure.
    """
    part = slice(None) if rows is None else rows
    item = pool.item[part]
    retrieved = max(int(metrics.retrieved[part].sum()), 1)

    def relevance(matches: np.ndarray | None) -> float | None:
        return None if matches is None else float(matches[part].sum() / retrieved)

    # Cold and fresh items: their share of the lists, and the recall of targets among them.
    groups: dict[str, float | None] = {}
    for group, chosen in test.item_groups.items():
        recall = metrics.recall_by_group[group][part]
        recall = recall[~np.isnan(recall)]
        groups[f"{group}_share"] = share_of(item, chosen)
        groups[f"{group}_recall_at_{RECALL_AT[-1]}"] = float(recall.mean()) if len(recall) else None
    means = zip(RECALL_AT, metrics.recall[part].mean(axis=0), strict=True)
    return {
        **{f"recall_at_{k}": float(value) for k, value in means},
        "l1_relevance": relevance(metrics.l1_matches),
        "l2_relevance": relevance(metrics.l2_matches),
        "coverage": coverage(item, len(test.content)),
        "intra_list_diversity": intra_list_diversity(item, test.content),
        **groups,
    }


def _pools(
    data: Prepared,
    test: Test,
    version: Retriever,
    settings: RetrievalSettings,
) -> Iterator[tuple[str, Pool]]:
    """Name and lists of each model, one at a time: the channels' lists are all
    that stays in memory.
    """
    # The baselines first: popularity, ItemKNN, and content where any item has it.
    size, k_ann = settings.pool, min(settings.k_ann, data.n_items - 1)
    request = Request.of(test.triggers, test.seen, settings)
    yield "popularity", popularity_pool(data.popularity, test.triggers, test.seen, size)
    history = data.train_histories()
    yield "itemknn", item_knn_pool(history, test.users, test.seen, data.n_items, size, k_ann)
    if test.content.any():
        yield "content", content_pool(test.content, request)
    # The heads' lists are retrieved once and merged at every alpha.
    pools = version.pools(request)
    for head, pool in pools.items():
        yield f"{head}_head", pool
    for alpha in sorted({*settings.alphas, settings.alpha}):
        quotas = version.quotas(alpha)
        yield f"merged_alpha_{alpha}", merge_pools(list(pools.values()), quotas, size)


def _for_gate(name: str, metrics: UserMetrics, pool: Pool) -> dict[str, np.ndarray]:
    """The arrays of users.npz of one side of the comparison."""
    matches = metrics.l2_matches
    return {
        f"{name}_recall": metrics.recall[:, -1].astype(np.float32),
        f"{name}_l2_matches": np.zeros_like(metrics.retrieved) if matches is None else matches,
        f"{name}_retrieved": metrics.retrieved,
        f"{name}_items": pool.item,
    }


def _line(row: dict[str, Any]) -> str:
    labels = {"recall_at_500": "recall@500", "l2_relevance": "L2 relevance", "coverage": "coverage"}
    measured = [key for key in labels if row[key] is not None]
    return ", ".join(f"{labels[key]} {100 * row[key]:.2f} %" for key in measured)


def evaluate_heads(
    prepared: Path, content: Path, retriever: Path, settings: RetrievalSettings, fresh_hours: float
) -> dict[str, dict[str, float | None]]:
    """The channels and their merge alone, measured as in `evaluate`: what a
    trial of settings needs to know.

    Returns the metrics of each head, `<head>_head`, and of the merge at the served alpha, `merged`;
    keys as in metrics.json. No baselines, no champion, nothing is written.
    """
    data, version = Prepared.load(prepared), Retriever.load(retriever)
    test = Test.of(data, np.load(content / "content.npy"), settings.triggers, fresh_hours)
    by_head = version.pools(Request.of(test.triggers, test.seen, settings))
    quotas = version.quotas(settings.alpha)
    pools = {f"{head}_head": pool for head, pool in by_head.items()}
    pools["merged"] = merge_pools(list(by_head.values()), quotas, settings.pool)
    return {name: summary(measure(pool, test), pool, test) for name, pool in pools.items()}
