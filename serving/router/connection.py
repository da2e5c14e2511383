"""One connection of a caller: uvicorn's protocol over httptools, with bounds on what comes before a
request is whole.

The bounds hold before anybody has shown a token: bytes and number of headers, the time until they
are complete, and how many connections are open at once.
"""

import resource
import time
from asyncio import BaseTransport, TimerHandle, Transport
from collections.abc import Callable
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.router.metrics import Metrics
from serving.router.settings import Limits

HEADER_BYTES = 32 * 1024  # of one request, its address included
HEADERS = 100  # lines of one request
HEADER_SECONDS = 10.0  # from the first byte that may belong to a request to the end of its headers
TEXTS = {
    "headers": (
        431,
        f"the headers are more than {HEADER_BYTES // 1024} KB or {HEADERS} lines: send less.",
    ),
    "full": (503, "every connection that this router may hold is at work: retry."),
}


class BoundedProtocol(HttpToolsProtocol):
    """`metrics` counts what is turned away; `limits` has how many connections there may be."""

    def __init__(
        self, *args: Any, metrics: Metrics, limits: Callable[[], Limits], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.metrics, self.limits = metrics, limits
        self.overhead = 0  # bytes since the last request began, or since the last piece of its body
        self.in_headers = True  # or between two requests
        self.header_timer: TimerHandle | None = None
        self.waiting_since = 0.0
        self.working: RequestResponseCycle | None = None  # whose answer is being made

    # Connections: as many as the limit; who says nothing makes room for who comes.

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection, in place of the one that has waited longest where there are too
        many.
        """
        super().connection_made(cast(Transport, transport))
        # From the first moment on: a caller who never sends a byte takes up a connection as well.
        self._await_headers()
        if len(self.connections) <= most_connections(self.limits().connections):
            return
        # Only idle connections may be closed, never one whose answer is being made.
        waiting = [
            connection
            for connection in self.connections
            if isinstance(connection, BoundedProtocol)
            and connection is not self
            and connection.is_waiting
        ]
        longest = min(waiting, key=lambda connection: connection.waiting_since, default=None)
        if longest is None:
            self._turn_away("full")
        else:
            self.metrics.connections_closed.labels("full").inc()
            # Removed right away: its end is reported later, and until then it would still count.
            self.connections.discard(longest)
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more: whoever makes it hears of it."""
        working = self.working
        super().connection_lost(exc)
        self._stop_timer()
        if working is None or working.response_complete:
            return
        if hang_up := cast(dict[str, Any], working.scope).get("on_hang_up"):
            hang_up()

    @property
    def is_waiting(self) -> bool:
        """No request is being worked on: none came, or none is whole yet."""
        return self.working is None or self.working.response_complete or self.working.more_body

    # Headers: counted before they are parsed, so that they cost no memory.

    def data_received(self, data: bytes) -> None:
        """Parse what came, in pieces that are no larger than the headers of a request may be."""
        for start in range(0, len(data), HEADER_BYTES):
            if self.transport.is_closing():
                return
            piece = data[start : start + HEADER_BYTES] if len(data) > HEADER_BYTES else data
            self.overhead += len(piece)
            super().data_received(piece)
            if self.overhead > HEADER_BYTES:
                self._turn_away("headers")
        # uvicorn has stopped its own timer of idle connections: ours goes on until the headers are
        # complete.
        if self.in_headers and self.overhead and self.header_timer is None:
            self._await_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one of a trailer."""
        if len(self.headers) < HEADERS:
            super().on_header(name, value)
        else:
            self._turn_away("headers")

    def on_headers_complete(self) -> None:
        """The request is known; its body is bounded by whoever reads it (guard.py)."""
        self.in_headers, self.overhead = False, 0
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; what comes between pieces and behind the last is counted as headers
        are.
        """
        self.overhead = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole as well: what comes next is another request."""
        self.in_headers, self.overhead = True, 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """A body that was answered before it was whole is not read for ever: the connection ends
        with the answer.
        """
        super().on_response_complete()
        self.waiting_since = time.monotonic()
        if not self.in_headers:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.working = cycle
        super()._start_asgi_task(cycle, app)

    def _await_headers(self) -> None:
        self.waiting_since = time.monotonic()
        self.header_timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self.header_timer = None
        if (
            not self.is_waiting
        ):  # a pipelined request is incomplete: the answer before it goes first
            self._await_headers()
        elif not self.transport.is_closing():
            self.metrics.connections_closed.labels("slow").inc()
            self.transport.close()

    def _stop_timer(self) -> None:
        if self.header_timer is not None:
            self.header_timer.cancel()
            self.header_timer = None

    def _turn_away(self, reason: str) -> None:
        """Say why, where no answer is on its way, and hang up."""
        if self.transport.is_closing():
            return
        self.metrics.connections_closed.labels(reason).inc()
        status, text = TEXTS[reason]
        # With an answer half sent, the caller would read these bytes as part of it.
        if (
            self.working is None
            or self.working.response_complete
            or not self.working.response_started
        ):
            body = orjson.dumps({"error": text, "request_id": ""})
            head = (
                f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: "
                f"{len(body)}\r\n"
            )
            self.transport.write(
                f"{head}retry-after: 1\r\nconnection: close\r\n\r\n".encode() + body
            )
        # Closing still sends what has been written.
        self.transport.close()


def most_connections(wanted: int) -> int:
    """At most half of the files that this process may open: the rest is for gRPC, models, stores
    and the log.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else max(min(wanted, files // 2), 1)
