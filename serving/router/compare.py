"""What the page shows of one request: both heads' lists beside the merge, with titles and topics."""

from typing import Any

from mtmh.heads import HEADS
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.retrieve import Found
from serving.router.service import milliseconds, rows_of


def comparison(found: Found, request_id: str, deadline: Deadline) -> dict[str, Any]:
    """The answer of /v1/compare (schema.Comparison)."""
    package = found.package
    lists = {**{head: _head(found, head) for head in HEADS}, "merged": rows_of(found.columns())}
    rows = [row for each in lists.values() for row in each]
    shown = dict.fromkeys([*found.triggers, *(row["item_id"] for row in rows)])
    items = {known: item(package, package.row_of[known]) for known in shown if known in package.row_of}
    for row in rows:
        trigger = items.get(row["trigger_id"])  # None: the version does not know it, nor its topics
        row["topic_match"] = topic_match(items[row["item_id"]], trigger) if trigger else None
    told = {
        "request_id": request_id,
        "model_version": package.number,
        "arm": found.arm,
        "alpha": found.alpha,
        "heads": package.heads,
        "degraded": bool(found.missing),
        "missing": found.missing,
        "triggers": found.triggers,
        "lists": lists,
        "items": items,
    }
    return {**told, "timings_ms": milliseconds(found) | {"total": round(1000 * deadline.spent(), 3)}}


def item(package: Package, row: int) -> dict[str, Any]:
    """An item in short."""
    topics = {f"{level}_topics": package.topics_of(row, level) for level in ("l1", "l2")}
    return {"item_id": package.item_ids[row], "title": package.titles[row], **topics}


def topic_match(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The finest level at which two items share a topic, "l2" or "l1", or None."""
    for level in ("l2", "l1"):
        if not set(one[f"{level}_topics"]).isdisjoint(other[f"{level}_topics"]):
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
