"""The page at `/` that shows the merge, and what it starts from; it asks the router's own interface
for the rest.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from serving.router import schema
from serving.router.compare import item
from serving.router.service import Service

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
SAMPLES = 8


def add_page(app: FastAPI, service: Service, problems: dict[int | str, dict[str, Any]]) -> None:
    """Serve the page, and GET /v1/samples for it."""
    for path, (name, kind) in FILES.items():
        _add_file(app, path, (PAGE / name).read_bytes(), kind)

    @app.get("/v1/samples", response_model=schema.Samples, responses=problems)
    async def samples(request: Request) -> Response:
        """Something to begin with: items by chance, and users whose history is known."""
        with service.admit(), service.retrieval.version(None) as (package, _):
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
