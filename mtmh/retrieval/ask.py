"""Questions to one version from the command line: what is similar to an item, what to show after a history."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.config import RetrievalSettings, load_config
from mtmh.errors import UserError
from mtmh.heads import HEADS
from mtmh.retrieval.merge import quota_merge

if TYPE_CHECKING:  # with torch: who asks for the settings of a run alone does without
    from mtmh.retrieval.retriever import Retriever


@dataclass(frozen=True)
class Found:
    """One candidate, as a person reads it."""

    item_id: str
    title: str
    topics: str
    head: str
    score: float  # cosine with one trigger; p(candidate | history) in a user's list
    trigger_id: str


def load(run: Path) -> "Retriever":
    """The retriever of a run directory, or of a version directory. Raises UserError when `run` is neither."""
    from mtmh.retrieval.retriever import Retriever

    if not run.is_dir():
        raise UserError(f"{run}: no such folder. Give a run, such as runs/latest, or a retriever directory.")
    return Retriever.load(run / "retriever" if (run / "retriever").is_dir() else run)


def similar(retriever: "Retriever", item_id: str, k: int, alpha: float) -> dict[str, list[Found]]:
    """The `k` best candidates for a trigger: of each head, and "merged" at `alpha` where there are two heads.

    Raises UserError when the version does not know the item.
    """
    trigger = _rows(retriever, [item_id])
    depth = min(max(2 * k, 50), len(retriever.items) - 1)
    heads = {head: retriever.similar_items(trigger, depth, head) for head in retriever.indexes}
    told = {
        head: _told(retriever, ids[0, :k], scores[0, :k], np.repeat(trigger, k), [head] * k)
        for head, (ids, scores) in heads.items()
    }
    if len(heads) == len(HEADS):
        merged = quota_merge(heads[HEADS[0]][0], heads[HEADS[1]][0], alpha, k)
        names = [HEADS[head] for head in merged.head[0]]
        scores = np.array([heads[name][1][0, rank] for name, rank in zip(names, merged.rank[0], strict=True)])
        told["merged"] = _told(retriever, merged.item[0], scores, np.repeat(trigger, k), names)
    return told


def recommend(
    retriever: "Retriever", history: list[str], k: int, alpha: float, settings: RetrievalSettings
) -> list[Found]:
    """The first `k` of a user's merged pool at `alpha`; the items of `history` are triggers and not shown again.

    Raises UserError when the version does not know an item of the history.
    """
    from mtmh.retrieval.retriever import merge_pools

    rows = _rows(retriever, history)
    triggers = (np.array([0, len(rows)], np.int64), rows)
    seen = (np.array([0, len(rows)], np.int64), np.sort(rows))
    depth = min(settings.k_ann, len(retriever.items) - 1)
    size = max(settings.pool, k)
    asked = triggers, seen, depth, size, settings.temperature
    pools = [retriever.pool(head, *asked) for head in HEADS if head in retriever.indexes]
    best = pools[0] if len(pools) == 1 else merge_pools(pools[0], pools[1], alpha, k)
    heads = [HEADS[head] for head in best.head[0, :k]]
    return _told(retriever, best.item[0, :k], best.score[0, :k], best.trigger[0, :k], heads)


def describe(retriever: "Retriever", item_id: str) -> str:
    """An item in a line. Raises UserError when the version does not know it."""
    item = _found(retriever.items.take(_rows(retriever, [item_id])).to_pylist()[0], "", 1.0, item_id)
    return f"{item.item_id}: {item.title} ({item.topics or 'no topics'})"


def evaluated(run: Path, user_id: str, k: int, alpha: int) -> list[Found]:
    """The first `k` of the list that the run's evaluation made for a test user at `alpha`.

    Raises UserError when the run keeps no such list: it does for a sample of users, and for the alphas evaluated.
    """
    path = run / "candidates.parquet"
    if not path.is_file():
        raise UserError(f"{run} has no candidates.parquet: give a run directory, or a history with --history A,B,C.")
    rows = pq.read_table(path, filters=[("user_id", "=", user_id), ("rank", "<=", k)])
    if not rows.num_rows:
        known = pc.unique(pq.read_table(path, columns=["user_id"], filters=[("rank", "=", 1)])["user_id"])
        raise UserError(
            f"user {user_id!r} is not among the {len(known):,} test users whose candidates {path} holds "
            f"(say, {', '.join(known[:3].to_pylist())}). Give the items of any user's history with --history A,B,C."
        )
    model = f"merged_alpha_{alpha}"
    listed = rows.filter(pc.equal(rows["model"].cast(pa.string()), model)).sort_by("rank").to_pylist()
    if not listed:
        merged = {name for name in rows["model"].to_pylist() if name.startswith("merged")}
        raise UserError(f"the run has no {model}; it evaluated {', '.join(sorted(merged)) or 'no merge'}.")
    table = load(run).items
    of_id = {row["item_id"]: row for row in table.to_pylist()}
    return [_found(of_id[row["item_id"]], row["head"] or "", row["score"], row["trigger_id"]) for row in listed]


def retrieval_settings(run: Path) -> RetrievalSettings:
    """How the run retrieved; the defaults for a version directory without its run."""
    path = run / "config.yaml"
    return load_config(path).retrieval if path.is_file() else RetrievalSettings()


def _rows(retriever: "Retriever", item_ids: list[str]) -> np.ndarray:
    known = retriever.items["item_id"]
    rows = pc.index_in(pa.array(item_ids, pa.string()), value_set=known.combine_chunks())
    if rows.null_count:
        unknown = item_ids[rows.to_pylist().index(None)]
        ids = known.to_pylist()
        close = get_close_matches(unknown, ids, n=3) or ids[:3]
        raise UserError(f"item {unknown!r} is not in this version. Known are, say, {', '.join(close)}.")
    return np.asarray(rows).astype(np.int32)


def _told(
    retriever: "Retriever", items: np.ndarray, scores: np.ndarray, triggers: np.ndarray, heads: list[str]
) -> list[Found]:
    there = items >= 0
    rows = retriever.items.take(pa.array(items[there])).to_pylist()
    trigger_ids = retriever.items["item_id"].take(pa.array(triggers[there])).to_pylist()
    names = [head for head, shown in zip(heads, there, strict=True) if shown]
    return [_found(*parts) for parts in zip(rows, names, scores[there].tolist(), trigger_ids, strict=True)]


def _found(item: dict[str, Any], head: str, score: float, trigger_id: str) -> Found:
    return Found(item["item_id"], item["title"] or "", ", ".join(item["l2_topics"] or []), head, score, trigger_id)
