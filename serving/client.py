"""A typed Python client of the router's HTTP interface.

with Client("http://127.0.0.1:8080") as client:
    for one in client.retrieve(user_id="u1", k=10).candidates:
        print(one.item_id, one.head, one.score)
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

Trigger = str | Mapping[str, Any]  # an item_id, or one with features (see /openapi.json)


class RouterError(Exception):
    """An answer that is no success: `status`, what the router says, and after how many seconds to
    retry, if at all.
    """

    def __init__(
        self, status: int, message: str, request_id: str, retry_after: float | None
    ) -> None:
        super().__init__(f"{status}: {message} (request {request_id})")
        self.status, self.message, self.request_id, self.retry_after = (
            status,
            message,
            request_id,
            retry_after,
        )


@dataclass(frozen=True, slots=True)
class RouterCandidate:
    """One candidate, best first in its answer."""

    item_id: str
    score: float  # p(candidate | user) of its head; the cosine in `similar`
    head: str  # the channel that it comes from, such as "engagement" or "relevance"
    head_rank: int  # place in that channel's list, from 1
    trigger_id: str


@dataclass(frozen=True, slots=True)
class RouterAnswer:
    """What was retrieved, and how. Engagements with the candidates name its `exposure_id`."""

    request_id: str
    exposure_id: str
    model_version: str
    arm: str
    alpha: float | None  # None of a version whose channels have quotas instead
    degraded: bool
    missing: list[str]  # what did not answer: channels by name, and "history"
    candidates: list[RouterCandidate]
    timings_ms: dict[str, float]
    exposure_logged: bool
    quotas: dict[str, float] | None = None  # channel -> percent, where alpha is None


class Client:
    """One router. Safe to use from several threads; close it, or use it as a context.

    `token` is the router's bearer token, where it asks for one; `timeout` in seconds. Calls raise
    RouterError for every answer that is no success, and httpx.TransportError where none comes.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8080", token: str | None = None, timeout: float = 5.0
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def retrieve(
        self,
        user_id: str | None = None,
        triggers: Sequence[Trigger] | None = None,
        k: int | None = None,
        alpha: float | None = None,
        filters: Mapping[str, Any] | None = None,
        quotas: Mapping[str, float] | None = None,
    ) -> RouterAnswer:
        """Candidates for a user's history, or for `triggers`, newest first; with both, the history
        is what was seen.

        `alpha` is the percent from the engagement head, `quotas` in its place that of each channel
        by name; `filters` may have exclude_seen,
        allow_topics, deny_topics and max_age_hours.
        """
        body = {
            "user_id": user_id,
            "triggers": triggers,
            "k": k,
            "alpha": alpha,
            "quotas": quotas,
            "filters": filters,
        }
        return self._post("/v1/retrieve", body)

    def similar(
        self,
        item_id: Trigger,
        k: int | None = None,
        alpha: float | None = None,
        user_id: str | None = None,
        quotas: Mapping[str, float] | None = None,
    ) -> RouterAnswer:
        """The items most like one item; `user_id`, who is shown them, decides the arm."""
        body = {"item_id": item_id, "k": k, "alpha": alpha, "user_id": user_id, "quotas": quotas}
        return self._post("/v1/similar", body)

    def engage(self, engagements: Sequence[Mapping[str, Any]], key: str | None = None) -> int:
        """Log what users did (see Engagement in /openapi.json); how many are on disk.

        Under the same `key` a call may be sent again, and counts once.
        """
        headers = {"idempotency-key": key or uuid.uuid4().hex}
        response = self._http.post(
            "/v1/engagements", json={"engagements": list(engagements)}, headers=headers
        )
        if not response.is_success:
            raise _error(response)
        logged: int = response.json()["logged"]
        return logged

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> RouterAnswer:
        response = self._http.post(
            path, json={name: value for name, value in body.items() if value is not None}
        )
        if not response.is_success:
            raise _error(response)
        content = response.json()
        return RouterAnswer(
            **{
                **content,
                "candidates": [RouterCandidate(**fields) for fields in content["candidates"]],
            }
        )


def _error(response: httpx.Response) -> RouterError:
    try:
        content = response.json()
    except ValueError:  # something else answered, such as a proxy
        content = {"error": response.text[:200]}
    after = response.headers.get("retry-after", "")
    retry_after = float(after) if after.isdigit() else None
    return RouterError(
        response.status_code, content.get("error", ""), content.get("request_id", ""), retry_after
    )
