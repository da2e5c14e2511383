"""Around every HTTP request: id, token, size, time to send it, one line in the log, and no traceback to anyone."""

import asyncio
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtmh.display import visible
from serving.router.limits import RequestError, shows_token
from serving.router.metrics import Metrics
from serving.router.settings import Limits

OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")  # without a token, as is the page
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("mtmh.router")


class Guard:
    """ASGI middleware. `limits` and `token` are asked for with every request: they may be read again."""

    def __init__(
        self, app: ASGIApp, limits: Callable[[], Limits], token: Callable[[], bytes | None], metrics: Metrics
    ) -> None:
        self.app, self.limits, self.token, self.metrics = app, limits, token, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        status = 0

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if not _is_open(scope["path"]) and not shows_token(headers.get(b"authorization", b""), self.token()):
                raise RequestError(401, "Authorization: Bearer TOKEN is missing, or its token is not the router's.")
            await self.app(scope, await self._whole_body(headers, receive), reply)
        except RequestError as error:
            if not status:
                await refuse(scope, receive, reply, error.status, error.message, error.retry_after)
        except Exception:
            log.exception("request failed", extra={"told": {"request_id": request_id, "path": scope["path"]}})
            if not status:
                await refuse(scope, receive, reply, 500, "the router failed; its log says why, under this request_id.")
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self.metrics.requests.labels(path, str(status)).inc()
        told = {"request_id": request_id, "method": scope["method"], "path": path, "status": status}
        told["ms"] = round(1e3 * (time.perf_counter() - start), 2)
        log.info("request", extra={"told": told | scope["state"].get("told", {})})

    async def _whole_body(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Read the body within its limits before anything works on it: a slow sender holds no place."""
        limits = self.limits()
        most = 1024 * limits.body_kb
        length = headers.get(b"content-length", b"")
        too_large = RequestError(413, f"the body is larger than {limits.body_kb} KB (limits.body_kb): send less.")
        if length.isdigit() and int(length) > most:
            raise too_large
        if not length and b"transfer-encoding" not in headers:
            return receive
        parts, size = [], 0
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return _once(message)
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise RequestError(408, f"the body did not arrive in {limits.body_seconds:g} s: send it faster.") from None
        return _once({"type": "http.request", "body": b"".join(parts), "more_body": False}, receive)


def problem(request_id: str, status: int, message: str, retry_after: int | None = None) -> tuple[bytes, list[Any]]:
    """Body and headers of an answer that is no success."""
    headers = [(b"content-type", b"application/json")]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):  # what is left of the body is not read
        headers.append((b"connection", b"close"))
    return orjson.dumps({"error": message, "request_id": request_id}), headers


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, message: str, retry_after: int | None = None
) -> None:
    """Send such an answer."""
    body, headers = problem(scope["state"]["request_id"], status, message, retry_after)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class JsonLines(logging.Formatter):
    """One JSON object a line; what is `told` with a record stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname}
        line |= {"logger": record.name, "message": record.getMessage(), **getattr(record, "told", {})}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return visible(orjson.dumps(line, default=str).decode())


def log_as_json(level: int = logging.INFO) -> None:
    """Everything that this process logs goes to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("uvicorn.access", "httpx", "feast", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _is_open(path: str) -> bool:
    return path in OPEN or not path.startswith("/v1/")


def _once(message: Message, then: Receive | None = None) -> Receive:
    """A `receive` that gives this message first."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given and then is not None:
            return await then()
        given = True
        return message

    return receive
