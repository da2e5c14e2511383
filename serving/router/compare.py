"""What the page shows of one request: both heads' lists beside the merge, with titles and
topics.
"""

from typing import Any

from mtmh.heads import HEADS
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.retrieve import RetrievalResult
from serving.router.service import milliseconds, rows_of


def comparison(result: RetrievalResult, request_id: str, deadline: Deadline) -> dict[str, Any]:
    """The answer of /v1/compare (schema.Comparison)."""
    package = result.package
    lists = {**{head: _head(result, head) for head in HEADS}, "merged": rows_of(result.columns())}
    rows = [row for candidates in lists.values() for row in candidates]
    item_ids = dict.fromkeys([*result.triggers, *(row["item_id"] for row in rows)])
    items = {
        item_id: item(package, package.row_of[item_id])
        for item_id in item_ids
        if item_id in package.row_of
    }
    for row in rows:
        trigger = items.get(row["trigger_id"])  # None: the version does not know it, nor its topics
        row["topic_match"] = topic_match(items[row["item_id"]], trigger) if trigger else None
    answer = {
        "request_id": request_id,
        "model_version": package.number,
        "arm": result.arm,
        "alpha": result.alpha,
        "heads": package.heads,
        "degraded": bool(result.missing),
        "missing": result.missing,
        "triggers": result.triggers,
        "lists": lists,
        "items": items,
    }
    return {
        **answer,
        "timings_ms": milliseconds(result) | {"total": round(1000 * deadline.spent(), 3)},
    }


def item(package: Package, row: int) -> dict[str, Any]:
    """An item in short."""
    topics = {f"{level}_topics": package.topics_of(row, level) for level in ("l1", "l2")}
    return {"item_id": package.item_ids[row], "title": package.titles[row], **topics}


def topic_match(first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """The finest level at which two items share a topic, "l2" or "l1", or None."""
    for level in ("l2", "l1"):
        if not set(first[f"{level}_topics"]).isdisjoint(second[f"{level}_topics"]):
            return level
    return None


def _head(result: RetrievalResult, head: str) -> list[dict[str, Any]]:
    if head not in result.lists:
        return []
    listed = result.lists[head]
    ids = [result.package.item_ids[row] for row in listed.item[: result.k].tolist()]
    sources = [result.triggers[index] for index in listed.trigger_at[: result.k].tolist()]
    rows = zip(ids, listed.score[: result.k].tolist(), sources, strict=True)
    return [
        {"item_id": item_id, "score": score, "head": head, "head_rank": rank, "trigger_id": source}
        for rank, (item_id, score, source) in enumerate(rows, start=1)
    ]
