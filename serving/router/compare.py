"""What the page shows of one request: both heads' lists beside the merge, with titles and topics."""

from typing import Any

from mtmh.heads import HEADS
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.retrieve import Found
from serving.router.service import milliseconds


def comparison(found: Found, request_id: str, deadline: Deadline) -> dict[str, Any]:
    """The answer of /v1/compare (schema.Comparison)."""
    package = found.package
    columns = found.columns()
    merged = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    lists = {**{head: _head(found, head) for head in HEADS}, "merged": merged}
    for row in (row for rows in lists.values() for row in rows):
        row["topic_match"] = topic_match(package, row["item_id"], row["trigger_id"])
    shown = dict.fromkeys([*found.triggers, *(row["item_id"] for rows in lists.values() for row in rows)])
    told = {
        "request_id": request_id,
        "model_version": package.number,
        "arm": found.arm,
        "alpha": found.alpha,
        "degraded": bool(found.missing),
        "missing": found.missing,
        "triggers": found.triggers,
        "lists": lists,
        "items": {known: item(package, package.row_of[known]) for known in shown if known in package.row_of},
    }
    return {**told, "timings_ms": milliseconds(found) | {"total": round(1000 * deadline.spent(), 3)}}


def item(package: Package, row: int) -> dict[str, Any]:
    """An item in short."""
    return {
        "item_id": package.item_ids[row],
        "title": package.titles[row],
        "l1_topics": package.l1_topics[row],
        "l2_topics": package.l2_topics[row],
    }


def topic_match(package: Package, item_id: str, trigger_id: str) -> str | None:
    """The finest level at which two items share a topic, "l2" or "l1"; None: none that the version knows of."""
    row, trigger = package.row_of[item_id], package.row_of.get(trigger_id)
    if trigger is None:
        return None
    for level, topics in (("l2", package.l2_topics), ("l1", package.l1_topics)):
        if not set(topics[row]).isdisjoint(topics[trigger]):
            return level
    return None


def _head(found: Found, head: str) -> list[dict[str, Any]]:
    if head not in found.lists:
        return []
    listed = found.lists[head]
    ids = [found.package.item_ids[row] for row in listed.item[: found.k].tolist()]
    sources = [found.triggers[at] for at in listed.trigger_at[: found.k].tolist()]
    rows = zip(ids, listed.score[: found.k].tolist(), sources, strict=True)
    return [
        {"item_id": item_id, "score": score, "head": head, "head_rank": rank, "trigger_id": source}
        for rank, (item_id, score, source) in enumerate(rows, start=1)
    ]
