"""The page at `/` that shows the merge: its files, what it starts from, and what it shows of one
request, each channel's list beside the merge, with titles and topics. It asks the router's own
interface for the rest.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from serving.router import schema
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.retrieve import NOTHING, RetrievalResult
from serving.router.service import Service, milliseconds, rows_of

PAGE = Path(__file__).with_name("page")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Only what this router serves, no script or style in the markup, in nobody's frame; ids in the
# address stay here.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # Ask each time whether it is still the same: an upgrade shows at once.
    "cache-control": "no-cache",
}
SAMPLES = 8  # items to begin with


def add_page(app: FastAPI, service: Service, problems: dict[int | str, dict[str, Any]]) -> None:
    """Serve the page, and GET /v1/samples for it."""
    # Read once at the start: requests for the page never wait for the disk.
    for path, (name, kind) in FILES.items():
        _add_file(app, path, (PAGE / name).read_bytes(), kind)

    @app.get("/v1/samples", response_model=schema.Samples, responses=problems)
    async def samples(request: Request) -> Response:
        """Something to begin with: items by chance, and users whose history is known."""
        with service.admit(), service.retrieval.version(None) as (package, _):
            # Different items every time; a small catalog may hold fewer.
            rows = random.sample(range(len(package.item_ids)), min(SAMPLES, len(package.item_ids)))
            samples_answer = {
                "request_id": request.state.request_id,
                "model_version": package.number,
                "k": service.settings.limits.k,
                "items": [item(package, row) for row in rows],
                "users": package.serving.get("users", []),
            }
            return Response(orjson.dumps(samples_answer), media_type="application/json")


def _add_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    headers = {**HEADERS, "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    @app.get(path, include_in_schema=False)
    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)


def comparison(result: RetrievalResult, request_id: str, deadline: Deadline) -> dict[str, Any]:
    """The answer of /v1/compare (schema.Comparison)."""
    package = result.package
    lists: dict[str, list[dict[str, Any]]] = {}
    for channel in package.channel_names:
        # A channel that did not answer has an empty list.
        listed = result.lists.get(channel, NOTHING)
        item_ids = [package.item_ids[row] for row in listed.item[: result.k].tolist()]
        sources = [result.triggers[index] for index in listed.trigger_at[: result.k].tolist()]
        columns = {
            "item_id": item_ids,
            "score": listed.score[: result.k].tolist(),
            "head": [channel] * len(item_ids),
            "head_rank": list(range(1, len(item_ids) + 1)),
            "trigger_id": sources,
        }
        lists[channel] = rows_of(columns)
    lists["merged"] = rows_of(result.columns())
    rows = [row for candidates in lists.values() for row in candidates]
    # Titles and topics once an item, however many lists it is in.
    named = dict.fromkeys([*result.triggers, *(row["item_id"] for row in rows)])
    items = {
        item_id: item(package, package.row_of[item_id])
        for item_id in named
        if item_id in package.row_of
    }
    for row in rows:
        trigger = items.get(row["trigger_id"])  # None: the version does not know it, nor its topics
        row["topic_match"] = topic_match(items[row["item_id"]], trigger) if trigger else None
    answer = {
        "request_id": request_id,
        "model_version": package.number,
        "arm": result.arm,
        **result.quotas.answered(),
        "heads": package.channel_names,
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
