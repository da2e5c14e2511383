"""Stage evaluate: the paper's protocol on all test users, for heads, merges, baselines and the champion (section 6)."""

import json
from collections.abc import Iterator
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
from mtmh.heads import CHANNELS
from mtmh.ragged import Ragged
from mtmh.retrieval.merge import quotas_at
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
    kinds: dict[str, np.ndarray]  # items looked at on their own, bool [items]: "cold" and "fresh"

    @classmethod
    def of(cls, data: Prepared, content: np.ndarray, triggers: int, fresh_hours: float) -> "Test":
        """Triggers are the last `triggers` distinct items of T1.

        Cold: no interaction in T1. Fresh: first there less than `fresh_hours` before the split. What is first there
        after the split is cold and not fresh, so that the two do not say the same thing twice; only an item that was
        created just before the split and that nobody engaged with by then is both.
        """
        users, targets = data.targets()
        history = data.train_histories()
        age = (data.split_time() - data.born()).astype(np.float64) / 3.6e9  # hours; far below 0 where unknown
        return cls(
            users=users,
            triggers=history.take(users, triggers),
            seen=history.take(users),
            targets=targets,
            l1_bits=data.topic_bits("l1"),
            l2_bits=data.topic_bits("l2"),
            content=content,
            kinds={"cold": ~data.in_train, "fresh": (age > 0) & (age < fresh_hours)},
        )


@dataclass(frozen=True)
class Figures:
    """One model's figures per user; `summary` averages them over any part of the users."""

    recall: np.ndarray  # float64 [U, len(RECALL_AT)]
    recall_by_kind: dict[str, np.ndarray]  # kind -> float64 [U], at the last of RECALL_AT; NaN = no such target
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
    """Write evaluation.json (models, sample, champion), candidates.parquet and users.npz (for the gate).

    Every model is ranked by the same protocol: lists of `retrieval.pool` items for all test users, without what they
    had engaged with in T1. candidates.parquet holds the lists of a seeded sample of `settings.sample_users` users.
    """
    data = Prepared.load(prepared)
    test = Test.of(data, np.load(content / "content.npy"), retrieval.triggers, settings.fresh_hours)
    chosen = np.random.default_rng(seed).permutation(len(test.users))[: settings.sample_users]
    sample = np.sort(chosen)
    user_ids = _user_ids(data, test.users[sample])
    item_ids = data.items["item_id"].combine_chunks()
    version = Retriever.load(retriever)
    models: dict[str, Any] = {}
    sampled: dict[str, Any] = {}
    tables: list[pa.Table] = []
    for_gate: dict[str, np.ndarray] = {"n_items": np.array(data.n_items)}
    for name, pool in _pools(data, test, version, retrieval):
        figures = measure(pool, test)
        models[name] = summary(figures, pool, test)
        sampled[name] = summary(figures, pool, test, sample)
        tables.append(_candidates(name, pool, sample, user_ids, item_ids))
        if name == f"merged_alpha_{retrieval.alpha}":
            for_gate |= _for_gate("challenger", figures, pool)
        print(f"evaluate: {name}: {_line(models[name])}", flush=True)
    result: dict[str, Any] = {"models": models, "sample": sampled}
    if champion is not None and is_of_other_data(champion, data):
        result["other_data"] = True
        print("evaluate: the champion is of other data (it knows none of the items): not compared", flush=True)
    elif champion is not None:
        pool, told = champion_pool(champion, data, test.triggers, test.seen, retrieval)
        figures = measure(pool, test)
        for_gate |= _for_gate("champion", figures, pool)
        result["champion"] = {**told, **summary(figures, pool, test)}
        print(f"evaluate: champion: {_line(result['champion'])}", flush=True)
    with pq.ParquetWriter(out / "candidates.parquet", tables[0].schema, compression="zstd", store_schema=False) as file:
        for table in tables:
            file.write_table(table)
    np.savez(out / "users.npz", allow_pickle=False, **for_gate)
    (out / "evaluation.json").write_text(json.dumps(result, indent=1))


def measure(pool: Pool, test: Test) -> Figures:
    """All figures that are means over users or over retrieved pairs."""
    matches = [
        None if bits is None else topic_matches(pool.item, pool.trigger, bits) for bits in (test.l1_bits, test.l2_bits)
    ]
    recall = recall_at(pool.item, *test.targets, RECALL_AT)
    recall_by_kind = {
        kind: recall_of(pool.item, *test.targets, chosen, RECALL_AT[-1]) for kind, chosen in test.kinds.items()
    }
    return Figures(recall, recall_by_kind, matches[0], matches[1], (pool.item >= 0).sum(axis=1).astype(np.int32))


def summary(figures: Figures, pool: Pool, test: Test, rows: np.ndarray | None = None) -> dict[str, float | None]:
    """One model's row of the table, over all users or those at `rows`; None where the data has nothing to measure."""
    part = slice(None) if rows is None else rows
    item, retrieved = pool.item[part], max(int(figures.retrieved[part].sum()), 1)
    recall = figures.recall[part].mean(axis=0)
    kinds: dict[str, float | None] = {}
    for kind, chosen in test.kinds.items():
        found = figures.recall_by_kind[kind][part]
        found = found[~np.isnan(found)]
        kinds[f"{kind}_share"] = share_of(item, chosen)
        kinds[f"{kind}_recall_at_{RECALL_AT[-1]}"] = float(found.mean()) if len(found) else None
    return {
        **{f"recall_at_{k}": float(value) for k, value in zip(RECALL_AT, recall, strict=True)},
        "l1_relevance": None if figures.l1_matches is None else float(figures.l1_matches[part].sum() / retrieved),
        "l2_relevance": None if figures.l2_matches is None else float(figures.l2_matches[part].sum() / retrieved),
        "coverage": coverage(item, len(test.content)),
        "intra_list_diversity": intra_list_diversity(item, test.content),
        **kinds,
    }


def _pools(data: Prepared, test: Test, version: Retriever, settings: RetrievalSettings) -> Iterator[tuple[str, Pool]]:
    """Name and lists of each model, one at a time: the channels' lists are all that stays in memory."""
    size, k_ann = settings.pool, min(settings.k_ann, data.n_items - 1)
    request = Request.of(test.triggers, test.seen, settings)
    yield "popularity", popularity_pool(data.popularity, test.triggers, test.seen, size)
    history = data.train_histories()
    yield "itemknn", item_knn_pool(history, test.users, test.seen, data.n_items, size, k_ann)
    if test.content.any():
        yield "content", content_pool(test.content, request)
    pools = version.pools(request)
    for head, pool in pools.items():
        yield f"{head}_head", pool
    for alpha in sorted({*settings.alphas, settings.alpha}):
        quotas = quotas_at(alpha, list(pools))
        yield f"merged_alpha_{alpha}", merge_pools(list(pools.values()), quotas, size)


def _candidates(name: str, pool: Pool, sample: np.ndarray, user_ids: pa.Array, item_ids: pa.Array) -> pa.Table:
    """Rows model, user_id, rank, item_id, trigger_id, head, score of the sampled users (design: run directory)."""
    row, place = np.nonzero(pool.item[sample] >= 0)
    user = sample[row]
    # Dictionaries, so that ten million ids are written as numbers and not hashed one by one.
    encode = pa.DictionaryArray.from_arrays
    head = pa.nulls(len(row), pa.int8()) if name in BASELINES else pa.array(pool.channel[user, place])
    return pa.table(
        {
            "model": encode(pa.array(np.zeros(len(row), dtype=np.int8)), pa.array([name])),
            "user_id": encode(pa.array(row.astype(np.int32)), user_ids),
            "rank": (place + 1).astype(np.int32),
            "item_id": encode(pa.array(pool.item[user, place]), item_ids),
            "trigger_id": encode(pa.array(pool.trigger[user, place]), item_ids),
            "head": encode(head, pa.array(CHANNELS)),
            "score": pool.score[user, place],
        }
    )


def _user_ids(data: Prepared, users: np.ndarray) -> pa.Array:
    """The user_id of each dense user number."""
    table = pq.read_table(data.path / "interactions.parquet", columns=["user", "user_id"])
    first = np.full(data.n_users, -1)
    first[table["user"].to_numpy()] = np.arange(len(table))
    return table["user_id"].combine_chunks().take(pa.array(first[users]))


def _for_gate(name: str, figures: Figures, pool: Pool) -> dict[str, np.ndarray]:
    matches = np.zeros_like(figures.retrieved) if figures.l2_matches is None else figures.l2_matches
    return {
        f"{name}_recall": figures.recall[:, -1].astype(np.float32),
        f"{name}_l2_matches": matches,
        f"{name}_retrieved": figures.retrieved,
        f"{name}_items": pool.item,
    }


def _line(row: dict[str, Any]) -> str:
    shown = [("recall@500", "recall_at_500"), ("L2 relevance", "l2_relevance"), ("coverage", "coverage")]
    return ", ".join(f"{label} {100 * row[key]:.2f} %" for label, key in shown if row[key] is not None)
