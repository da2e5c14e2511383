"""Who is let in, and with what: bounded work, a deadline for each request, a token compared in
constant time, numbers and times within bounds.
"""

import hmac
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from serving.router.metrics import Metrics
from serving.router.schema import Engagement, RetrieveRequest, SimilarRequest
from serving.router.settings import Limits

SKEW = timedelta(minutes=5)  # by which a caller's clock may be ahead


class RequestError(Exception):
    """An answer that is no success: its HTTP status, what to say, and when to come back
    (seconds).
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class Deadline:
    """The budget of one request, from the moment it was let in."""

    def __init__(self, milliseconds: float) -> None:
        self.start = time.perf_counter()
        self.end = self.start + milliseconds / 1000

    def spent(self) -> float:
        """Seconds."""
        return time.perf_counter() - self.start

    def left(self) -> float:
        """Seconds."""
        return self.end - time.perf_counter()


class Admission:
    """At most `in_flight` requests at once. What is over is turned away at once: a queue would only
    add latency.
    """

    def __init__(self, in_flight: int, metrics: Metrics) -> None:
        self.limit, self.taken, self.metrics = in_flight, 0, metrics

    @contextmanager
    def admit(self, requests: int = 1) -> Iterator[None]:
        """Count `requests` as worked on. Raises RequestError 429 when there is no room for them."""
        if self.taken + requests > self.limit:
            self.metrics.shed.inc(requests)
            raise RequestError(
                429,
                f"{self.taken} requests are being worked on, the limit is {self.limit}: retry.",
                1,
            )
        self.taken += requests
        self.metrics.in_flight.set(self.taken)
        try:
            yield
        finally:
            self.taken -= requests
            self.metrics.in_flight.set(self.taken)


def shows_token(authorization: bytes, tokens: Sequence[bytes] | None) -> bool:
    """Whether the header's value is `Bearer` and one of the tokens, in constant time; always where
    there are none.
    """
    if tokens is None:
        return True
    scheme, _, credential = authorization.partition(b" ")
    # All are compared.
    matches = [hmac.compare_digest(credential.strip(), token) for token in tokens]
    return any(matches) and scheme.lower() == b"bearer"


def check_limits(request: RetrieveRequest | SimilarRequest, triggers: int, limits: Limits) -> int:
    """How many candidates to answer. Raises RequestError 422 for what this router's configuration
    does not allow.
    """
    if triggers > limits.triggers:
        text = (
            f"triggers: {triggers} are more than this router takes, {limits.triggers} "
            f"(limits.triggers)"
        )
        raise RequestError(422, f"{text}: give the newest.")
    if "k" not in request.model_fields_set:
        return min(request.k, limits.k)
    if request.k > limits.k:
        raise RequestError(
            422, f"k: {request.k} is more than this router answers, {limits.k} (limits.k)."
        )
    return request.k


def check_times(engagements: Sequence[Engagement], days: int) -> None:
    """Raises RequestError 422 for an engagement older than `days`, or later than now by more than
    clocks differ.
    """
    now = datetime.now(UTC)
    oldest, newest = now - timedelta(days=days), now + SKEW
    for number, engagement in enumerate(engagements):
        time = engagement.timestamp
        if time is not None and not oldest <= time <= newest:
            text = (
                f"engagements.{number}.timestamp: {time.isoformat()} is not between "
                f"{oldest:%Y-%m-%dT%H:%M:%SZ}"
            )
            raise RequestError(
                422, f"{text} (limits.engagement_days) and {newest:%Y-%m-%dT%H:%M:%SZ}."
            )
