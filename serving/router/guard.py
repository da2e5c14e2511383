"""Around every HTTP request: id, token, its body read, one line in the log, and no traceback to
anyone.
"""

import asyncio
import logging
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtmh.display import visible
from serving.router.body import HungUpError, has_body, linger, whole_body
from serving.router.limits import CALLER, RequestError, Tokens, caller_of
from serving.router.metrics import Metrics
from serving.router.settings import Limits, is_loopback

# Without a token, as is the page.
OPEN = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
)
# What came whole is kept, whether or not the caller waits for the answer.
COMPLETED = ("/v1/engagements",)
HUNG_UP = 499  # the status, in figures and log, of a caller who went away: no fault of the server
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("mtmh.router")


class Guard:
    """ASGI middleware. `limits` and `tokens` are asked for with every request: they may be read
    again.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Callable[[], Limits],
        tokens: Callable[[], Tokens | None],
        metrics: Metrics,
    ) -> None:
        self.app, self.limits, self.tokens, self.metrics = app, limits, tokens, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        # A HEAD is answered as its GET is: the server leaves the body out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        call = {
            **scope,
            "method": method,
            "state": {**scope.get("state", {}), "request_id": request_id},
        }
        status, unread = 0, has_body(headers)
        CALLER.set("")

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            self._check_caller(call, headers)
            body = await whole_body(call["path"], headers, receive, self.limits())
            unread = False
            if call["path"] in COMPLETED:
                await self.app(call, body, reply)
            else:
                await self._while_connected(scope, self.app(call, body, reply))
        except RequestError as error:
            if not status:
                await refuse(call, reply, error.status, error.message, error.retry_after, unread)
        except HungUpError:
            status = HUNG_UP
        except Exception:
            log.exception(
                "request failed",
                extra={"fields": {"request_id": request_id, "path": scope["path"]}},
            )
            if not status:
                await refuse(
                    call, reply, 500, "the router failed; its log says why, under this request_id."
                )
        self._note(call, scope["method"], status, time.perf_counter() - start)
        if unread and status != HUNG_UP:
            await linger(receive)
            await reply({"type": "http.response.body", "body": b""})

    def _note(self, call: Scope, method: str, status: int, seconds: float) -> None:
        """Count and log a request that has its answer."""
        path = getattr(call.get("route"), "path", "other")
        self.metrics.requests.labels(path, str(status)).inc()
        if caller := CALLER.get():
            self.metrics.callers.labels(caller, str(status)).inc()
        fields = {
            "request_id": call["state"]["request_id"],
            "caller": caller,
            "method": method,
            "path": path,
            "status": status,
            "ms": round(1e3 * seconds, 2),
        }
        log.info("request", extra={"fields": fields | call["state"].get("log_fields", {})})

    def _check_caller(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raises RequestError 401 without the token; without one to ask for, 403 for a page of
        another site; 415.
        """
        # The page, probes and Prometheus need no token: everything about users is below /v1/.
        if scope["path"] in OPEN or not scope["path"].startswith("/v1/"):
            return
        tokens = self.tokens()
        # `headers` keeps only the last value of a repeated header, so repeats are counted here.
        credentials = [value for name, value in scope["headers"] if name == b"authorization"]
        caller = caller_of(headers.get(b"authorization", b""), tokens)
        if len(credentials) > 1 or caller is None:
            raise RequestError(
                401, "Authorization: Bearer TOKEN is missing, given twice, or not the router's."
            )
        CALLER.set(caller)
        if (
            tokens is None
            and b"origin" in headers
            and is_foreign(headers[b"origin"], headers.get(b"host", b""))
        ):
            text = (
                "a page of another site asks, and this router asks nobody for a token: set "
                "auth.token_file."
            )
            raise RequestError(403, text)
        # Browsers ask a foreign site before they send it JSON; forms and text they simply send.
        kind = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        if (
            scope["method"] == "POST"
            and kind != b"application/json"
            and not kind.endswith(b"+json")
        ):
            raise RequestError(
                415, f"content-type: {kind.decode('latin-1')!a} is no JSON: send application/json."
            )

    async def _while_connected(self, scope: Scope, answer: Awaitable[None]) -> None:
        """Make an answer for as long as somebody waits for it. Raises HungUpError when nobody does
        (connection.py).
        """
        task, hung_up = asyncio.current_task(), False

        def hang_up() -> None:
            nonlocal hung_up
            hung_up = True
            if task is not None:
                task.cancel()

        # connection.py calls this when the connection is lost.
        scope["on_hang_up"] = hang_up
        try:
            await answer
        except asyncio.CancelledError:
            # Cancelled by somebody else, such as a server that is stopping.
            if not hung_up:
                raise
            if task is not None:
                # Dealt with: from here on the task must not count as cancelled.
                task.uncancel()
            raise HungUpError from None
        finally:
            del scope["on_hang_up"]


def problem(
    request_id: str, status: int, message: str, retry_after: int | None = None
) -> tuple[bytes, list[Any]]:
    """Body and headers of an answer that is no success."""
    headers = [(b"content-type", b"application/json")]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return orjson.dumps({"error": message, "request_id": request_id}), headers


async def refuse(
    scope: Scope,
    send: Send,
    status: int,
    message: str,
    retry_after: int | None = None,
    unread: bool = False,
) -> None:
    """Send such an answer; of a request whose body is `unread` without its end: the caller may be
    sending still.
    """
    body, headers = problem(scope["state"]["request_id"], status, message, retry_after)
    headers.append((b"content-length", str(len(body)).encode()))
    if unread:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": unread})


def is_foreign(origin: bytes, host: bytes) -> bool:
    """Whether a browser's page comes from elsewhere than this machine's router, by another name for
    it too.
    """
    try:
        site = urlsplit(origin.decode("latin-1"))
        return site.netloc.lower() != host.decode("latin-1").lower() or not is_loopback(
            site.hostname or ""
        )
    except ValueError:
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line; the `fields` of a record stand beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
        }
        line |= {
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
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
