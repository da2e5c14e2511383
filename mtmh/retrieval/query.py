"""Questions to one version from the command line: what is similar to an item,
what to show after a history.
"""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.config import RetrievalSettings
from mtmh.errors import UserError
from mtmh.ids import Ids
from mtmh.ragged import Ragged
from mtmh.retrieval.merge import quota_merge
from mtmh.retrieval.retriever import Request, Retriever


@dataclass(frozen=True)
class CandidateLine:
    """One candidate, as a person reads it."""

    item_id: str
    title: str
    topics: str
    head: str
    score: float  # cosine with one trigger; p(candidate | history) in a user's list
    trigger_id: str


def load(run: Path) -> Retriever:
    """The retriever of a run directory, or of a version directory. Raises
    UserError when `run` is neither.
    """
    if not run.is_dir():
        raise UserError(
            f"{run}: no such folder. Give a run, such as runs/latest, or a retriever directory."
        )
    return Retriever.load(run / "retriever" if (run / "retriever").is_dir() else run)


def similar(
    retriever: Retriever,
    item_id: str,
    k: int,
    alpha: float,
) -> dict[str, list[CandidateLine]]:
    """The `k` best candidates for a trigger: of each head, and "merged" at
    `alpha` where there are several.

    Raises UserError when the version does not know the item.
    """
    trigger = _rows(retriever, [item_id])
    # The merge drops what both heads offer, so each looks deeper than `k`.
    depth = min(max(2 * k, 50), len(retriever.items) - 1)
    lists = {head: retriever.similar_items(trigger, depth, head) for head in retriever.names}
    triggers, heads = np.repeat(trigger, k), list(lists)
    candidates = {
        head: _candidates(retriever, ids[0, :k], scores[0, :k], triggers, [head] * k)
        for head, (ids, scores) in lists.items()
    }
    if len(heads) > 1:
        merged = quota_merge([ids for ids, _ in lists.values()], retriever.quotas(alpha), k)
        score = merged.take([scores for _, scores in lists.values()], -np.inf)
        names = [heads[number] for number in merged.channel[0]]
        candidates["merged"] = _candidates(retriever, merged.item[0], score[0], triggers, names)
    return candidates


def recommend(
    retriever: Retriever, history: list[str], k: int, alpha: float, settings: RetrievalSettings
) -> list[CandidateLine]:
    """The first `k` of a user's merged pool at `alpha`; the items of `history`
    are triggers and not shown again.

    Raises UserError when the version does not know an item of the history.
    """
    triggers = Ragged.of([_rows(retriever, history)])
    request = Request.of(triggers, triggers.sorted(), settings)
    best = retriever.recommend(replace(request, size=max(settings.pool, k)), alpha)
    heads = [retriever.names[number] for number in best.channel[0, :k]]
    return _candidates(retriever, best.item[0, :k], best.score[0, :k], best.trigger[0, :k], heads)


def describe(retriever: Retriever, item_id: str) -> str:
    """An item in a line. Raises UserError when the version does not know it."""
    (row,) = retriever.items.take(_rows(retriever, [item_id])).to_pylist()
    item = _candidate(row, "", 1.0, item_id)
    return f"{item.item_id}: {item.title} ({item.topics or 'no topics'})"


def evaluated(run: Path, user_id: str, k: int, alpha: int) -> list[CandidateLine]:
    """The first `k` of the list of the run's evaluation for a test user at `alpha`.

    Raises UserError when the run keeps no such list: it keeps those of a sample of users, and for
    the alphas evaluated.
    """
    path = run / "candidates.parquet"
    if not path.is_file():
        raise UserError(
            f"{run} has no candidates.parquet: give a run directory, or a history with --history "
            f"A,B,C."
        )
    # The file holds the lists of many users, by all models: only one user's are read.
    rows = pq.read_table(path, filters=[("user_id", "=", user_id), ("rank", "<=", k)])
    if not rows.num_rows:
        # Nobody knows test users by heart: a few names help. One row a list is enough for that.
        first = pq.read_table(path, columns=["user_id"], filters=[("rank", "=", 1)])
        user_ids = pc.unique(first["user_id"])
        raise UserError(
            f"user {user_id!r} is not among the {len(user_ids):,} test users whose candidates "
            f"{path} holds (say, {', '.join(user_ids[:3].to_pylist())}). Give the items of any "
            "user's history with --history A,B,C."
        )
    model = f"merged_alpha_{alpha}"
    is_model = pc.equal(rows["model"].cast(pa.string()), model)
    candidates = rows.filter(is_model).sort_by("rank").to_pylist()
    if not candidates:
        # What was evaluated says which alphas there are to choose from.
        merged = {name for name in rows["model"].to_pylist() if name.startswith("merged")}
        raise UserError(
            f"the run has no {model}; it evaluated {', '.join(sorted(merged)) or 'no merge'}."
        )
    # Titles and topics are with the version: the lists have ids alone.
    table = load(run).items
    of_id = {row["item_id"]: row for row in table.to_pylist()}
    lines = []
    for row in candidates:
        item, head = of_id[row["item_id"]], row["head"] or ""  # a baseline has no head
        lines.append(_candidate(item, head, row["score"], row["trigger_id"]))
    return lines


def _rows(retriever: Retriever, item_ids: list[str]) -> np.ndarray:
    rows = Ids(retriever.items["item_id"]).rows(item_ids)
    if (rows < 0).any():
        unknown = item_ids[int((rows < 0).argmax())]
        ids = retriever.items["item_id"].to_pylist()
        close = get_close_matches(unknown, ids, n=3) or ids[:3]
        raise UserError(
            f"item {unknown!r} is not in this version. Known are, say, {', '.join(close)}."
        )
    return rows


def _candidates(
    retriever: Retriever,
    items: np.ndarray,
    scores: np.ndarray,
    triggers: np.ndarray,
    heads: list[str],
) -> list[CandidateLine]:
    """As a person reads them; a list ends at the first item -1."""
    n = int((items >= 0).sum())
    rows = retriever.items.take(pa.array(items[:n])).to_pylist()
    trigger_ids = retriever.items["item_id"].take(pa.array(triggers[:n])).to_pylist()
    columns = zip(rows, heads[:n], scores[:n].tolist(), trigger_ids, strict=True)
    return [_candidate(*column) for column in columns]


def _candidate(item: dict[str, Any], head: str, score: float, trigger_id: str) -> CandidateLine:
    topics = ", ".join(item["l2_topics"] or [])
    return CandidateLine(item["item_id"], item["title"] or "", topics, head, score, trigger_id)
