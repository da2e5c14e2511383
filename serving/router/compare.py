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
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    told = {
        "request_id": request_id,
        "model_version": package.number,
        "arm": found.arm,
        "alpha": found.alpha,
        "degraded": bool(found.missing),
        "missing": found.missing,
        "triggers": [item(package, package.row_of.get(trigger, -1), trigger) for trigger in found.triggers],
        **{head: _head(found, head) for head in HEADS},
        "merged": [_told(package, row) for row in rows],
    }
    return {**told, "timings_ms": milliseconds(found) | {"total": round(1000 * deadline.spent(), 3)}}


def item(package: Package, row: int, item_id: str = "") -> dict[str, Any]:
    """An item in short; row -1 is one that the version does not know."""
    if row < 0:
        return {"item_id": item_id, "title": "", "topics": []}
    return {"item_id": package.item_ids[row], "title": package.titles[row], "topics": package.topics_of(row)}


def _head(found: Found, head: str) -> list[dict[str, Any]]:
    if head not in found.lists:
        return []
    listed = found.lists[head]
    ids = [found.package.item_ids[row] for row in listed.item[: found.k].tolist()]
    sources = [found.triggers[at] for at in listed.trigger_at[: found.k].tolist()]
    rows = zip(ids, listed.score[: found.k].tolist(), sources, strict=True)
    return [
        _told(found.package, {"item_id": i, "score": score, "head": head, "head_rank": rank, "trigger_id": source})
        for rank, (i, score, source) in enumerate(rows, start=1)
    ]


def _told(package: Package, row: dict[str, Any]) -> dict[str, Any]:
    trigger = package.row_of.get(row["trigger_id"], -1)
    known = item(package, package.row_of[row["item_id"]])
    match = trigger >= 0 and not set(known["topics"]).isdisjoint(package.topics_of(trigger))
    return {**row, **known, "topic_match": match}
