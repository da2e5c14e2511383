"""Who is let in, and with what: bounded work, a deadline for each request, a token compared in
constant time, numbers and times within bounds.
"""

import hmac
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

from serving.router.metrics import Metrics
from serving.router.schema import Engagement, RetrieveRequest, SimilarRequest
from serving.router.settings import Limits

Tokens = Mapping[bytes, str]  # each with its caller's name, empty where it has none
# Of the request that is being answered; empty where it is nobody's in particular.
CALLER: ContextVar[str] = ContextVar("caller", default="")
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
    """At most `in_flight` requests at once, of one caller `in_flight_per_caller`. What is over is
    turned away at once: a queue would only add latency.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.taken, self.metrics = limits, 0, metrics
        self.of_caller: Counter[str] = Counter()

    @contextmanager
    def admit(self, requests: int = 1) -> Iterator[None]:
        """Count `requests` as worked on. Raises RequestError 429 when there is no room for them."""
        caller, share = CALLER.get(), self.limits.in_flight_per_caller
        bounds = [(self.taken, self.limits.in_flight, "")]
        if caller and share is not None:
            bounds.append((self.of_caller[caller], share, f" of {caller}"))
        for taken, limit, whose in bounds:
            if taken + requests > limit:
                self.metrics.shed.inc(requests)
                text = f"{taken} requests{whose} are being worked on, the limit is {limit}: retry."
                raise RequestError(429, text, 1)
        self._count(caller, requests)
        try:
            yield
        finally:
            self._count(caller, -requests)

    def _count(self, caller: str, requests: int) -> None:
        self.taken += requests
        self.of_caller[caller] += requests
        self.metrics.in_flight.set(self.taken)


def caller_of(authorization: bytes, tokens: Tokens | None) -> str | None:
    """Whose token stands behind `Bearer` in the header's value, compared in constant time; None
    where it is nobody's. Empty for a token without a name, and where no token is asked for.
    """
    if tokens is None:
        return ""
    scheme, _, credential = authorization.partition(b" ")
    # All are compared, whichever matches.
    names = [
        name for token, name in tokens.items() if hmac.compare_digest(credential.strip(), token)
    ]
    return names[0] if names and scheme.lower() == b"bearer" else None


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
