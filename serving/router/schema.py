"""What the router is asked and answers, with limits: the source of the OpenAPI page.

Requests are checked by these models; answers are written by hand, for speed, and tests hold them to
these.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from mtmh.exposures.records import Dwell, Value
from mtmh.head_settings import QuotaTable
from serving.router.settings import MAX_BATCH, MAX_K, MAX_TRIGGERS

Id = Annotated[str, Field(min_length=1, max_length=256)]
Topic = Annotated[str, Field(min_length=1, max_length=256)]
Alpha = Annotated[
    float, Field(ge=0, le=100, description="Percent from the engagement head; default: the arm's.")
]
Quotas = Annotated[QuotaTable, Field(description="In place of alpha: percent by channel.")]
K = Annotated[
    int,
    Field(ge=1, le=MAX_K, description="How many candidates; default 50, or the router's limit."),
]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]  # what float32 holds
# Parts of pydantic's paths that say nothing to a caller.
PLACES = ("body", "query", "path", "constrained-str", "str", "Trigger")
REPEATABLE = (str, int, float, bool, type(None))  # types of input that an error may repeat


def _written_out(value: Any) -> Any:
    """Refuse a number, as a text too: nobody knows whether it is seconds or milliseconds."""
    if isinstance(value, str | datetime) and "-" in str(value)[1:8]:
        return value
    raise ValueError("write the time as 2026-03-01T12:00:00Z")


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out)]


class StrictRequest(BaseModel):
    """Base of the requests: an unknown key is an error, not a silent no, and so is a number in the
    form of a text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Trigger(StrictRequest):
    """An item with what is known of it, for one that the version has not seen; of a known item only
    the id counts.
    """

    item_id: Id
    id_features: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="Such as {'creator_id': 'c7'}."
    )
    float_features: dict[str, Number] = Field(
        default_factory=dict, max_length=256, description="Such as {'log_age_days': 0.1}."
    )
    content: list[Number] | None = Field(
        default=None, max_length=4096, fail_fast=True, description="The content encoder's vector."
    )

    @property
    def has_features(self) -> bool:
        """Whether it says anything but its id."""
        return bool(self.id_features or self.float_features or self.content)


class Filters(StrictRequest):
    """What may not come back. The heads' first thousand candidates are sifted, so a narrow filter
    may leave few.
    """

    exclude_seen: bool = Field(
        default=True, description="Leave out the triggers and the user's history."
    )
    allow_topics: list[Topic] | None = Field(
        default=None,
        max_length=100,
        fail_fast=True,
        description="Only items with one of these topics.",
    )
    deny_topics: list[Topic] = Field(
        default_factory=list,
        max_length=100,
        fail_fast=True,
        description="No item with one of these topics.",
    )
    max_age_hours: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None,
        description="Only items created within these hours; an item of unknown age is left out.",
    )


NO_FILTERS = Filters()


class RetrieveRequest(StrictRequest):
    """A user, or triggers (newest first), or both; with both, the user's history says what was
    seen.
    """

    user_id: Id | None = None
    triggers: list[Id | Trigger] | None = Field(
        default=None, max_length=MAX_TRIGGERS, fail_fast=True
    )
    k: K = 50
    alpha: Alpha | None = None
    quotas: Quotas | None = None
    filters: Filters = Field(default_factory=lambda: NO_FILTERS)


class SimilarRequest(StrictRequest):
    """Plain item to item: the nearest of each channel by cosine, merged."""

    item_id: Id | Trigger
    user_id: Id | None = Field(
        default=None, description="Who is shown the answer: decides the arm, and is logged."
    )
    k: K = 50
    alpha: Alpha | None = None
    quotas: Quotas | None = None


class BatchRequest(StrictRequest):
    """Several requests in one; each gets its own answer, in order."""

    requests: list[RetrieveRequest] = Field(min_length=1, max_length=MAX_BATCH, fail_fast=True)


class Engagement(StrictRequest):
    """Something a user did with an item; `exposure_id` is that of the answer which showed it.

    Sent again after an answer that was lost, an engagement counts once when it has an `event_id`,
    its call an Idempotency-Key, or it has a timestamp; else when the call has the same x-request-id
    within ten minutes.
    """

    user_id: Id
    item_id: Id
    event: Annotated[str, Field(min_length=1, max_length=64)] = "engagement"
    timestamp: Time | None = Field(
        default=None,
        description="With a time zone, not later than now nor older than the router takes; "
        "default: now.",
    )
    event_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="The caller's own for this event of this user; sent again, it counts once.",
    )
    exposure_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    request_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="Of callers without exposure_id: counts where one answer to the user has it.",
    )
    value: Value = 1.0
    dwell_seconds: Dwell | None = Field(default=None, description="At most a day: 86,400.")


class EngagementsRequest(StrictRequest):
    engagements: list[Engagement] = Field(min_length=1, max_length=1000, fail_fast=True)


class Candidate(BaseModel):
    item_id: str
    score: float = Field(description="p(candidate | user) of its list; in /v1/similar the cosine.")
    head: str = Field(description="The channel that it comes from; a head's has the head's name.")
    head_rank: int = Field(description="Place in that channel's list after the filters, from 1.")
    trigger_id: str


class Answer(BaseModel):
    request_id: str = Field(
        description="The caller's x-request-id, for tracing; made here where there is none."
    )
    exposure_id: str = Field(
        description="Of this answer alone; engagements with its candidates name it."
    )
    model_version: str
    arm: str = Field(
        description="none: no experiment runs, or the request names no user to assign."
    )
    alpha: float | None = Field(
        description="As used; null of a version whose channels have no such short form."
    )
    quotas: dict[str, float] | None = Field(
        default=None, description="As used, by channel; there where alpha is null."
    )
    degraded: bool = Field(description="Something did not answer in time; `missing` says what.")
    missing: list[str] = Field(description="Channels by name, and history.")
    candidates: list[Candidate]
    timings_ms: dict[str, float] = Field(description="history, each channel, merge, log, total.")
    exposure_logged: bool = Field(description="true: the exposure is on disk.")


class BatchProblem(BaseModel):
    """In a batch, in place of an answer."""

    error: str
    request_id: str
    status: int


class BatchAnswer(BaseModel):
    request_id: str
    answers: list[Answer | BatchProblem]


class Compared(Candidate):
    """A candidate, and the finest level at which it shares a topic with its trigger."""

    topic_match: Literal["l2", "l1"] | None


class Item(BaseModel):
    item_id: str
    title: str
    l1_topics: list[str]
    l2_topics: list[str]


class Comparison(BaseModel):
    """Each channel's list and the merge, for the page."""

    request_id: str
    model_version: str
    arm: str
    alpha: float | None
    quotas: dict[str, float] | None = Field(default=None, description="As in an answer.")
    heads: list[str] = Field(description="The version's channels.")
    degraded: bool
    missing: list[str]
    triggers: list[str] = Field(description="item_ids as the channels were asked, newest first.")
    lists: dict[str, list[Compared]] = Field(
        description="Each channel's best K, and `merged`; one that did not answer has none."
    )
    items: dict[str, Item] = Field(
        description="Every item named, but triggers that the version does not know."
    )
    timings_ms: dict[str, float]


class Items(BaseModel):
    request_id: str
    model_version: str
    items: list[Item]


class Samples(Items):
    """What the page starts from."""

    k: int = Field(description="The most candidates that this router answers.")
    users: list[str] = Field(description="Some users whose history is known.")


class Logged(BaseModel):
    request_id: str
    logged: int = Field(description="Engagements that are on disk.")


class Health(BaseModel):
    status: str
    model_version: str | None = None
    instead_of: str = Field(
        "",
        description="The champion, where `model_version` serves in its place: see `refused` and "
        "`waiting`.",
    )
    canary: str | None = Field(None, description="A version that a share of the users get instead.")
    canary_share: float = Field(0.0, description="That share, from 0 to 1.")
    refused: dict[str, str] = Field(
        default_factory=dict, description="Versions that are not served, and why."
    )
    waiting: dict[str, str] = Field(
        default_factory=dict, description="Versions that will be served, and what they wait for."
    )
    silent: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Versions that take traffic, their channels that do not answer now, and why.",
    )
    champion_named_us: int = Field(
        0,
        description="When the champion was named that the others speak of, in microseconds since "
        "1970 by the store's clock: what was refused is tried again when it is named again.",
    )


class Problem(BaseModel):
    """Every answer that is no success."""

    error: str = Field(description="What was wrong, where, and what to write instead.")
    request_id: str


def digits(text: Any) -> Any:
    """A number in an address: digits alone, where Python takes ` 7 ` and `1_0` as well."""
    if isinstance(text, str) and not (text.isascii() and text.isdigit()):
        raise ValueError("write a whole number, in digits alone")
    return text


def explain(errors: Sequence[Any]) -> str:
    """Every error of a request in one text: where, what, and what was found; never longer than a
    screen.
    """
    # An item is an id or an object: that an object is no id says nothing, and what is wrong in it
    # stands beside.
    errors = [
        e
        for e in errors
        if e["loc"][-1:] != ("constrained-str",) or not isinstance(e["input"], dict)
    ]
    lines: list[str] = []
    for error in errors[:8]:
        where = ".".join(str(part) for part in error["loc"] if part not in PLACES) or "body"
        if error["type"] == "extra_forbidden":
            lines.append(f"{where}: no such key")
        elif error["type"] == "json_invalid":
            why = error.get("ctx", {}).get("error", "cannot be read")
            lines.append(f"the body is no JSON ({why})")
        elif error["type"] == "value_error" and isinstance(error["input"], dict):
            lines.append(f"{where}: {error['ctx']['error']}")  # a check of ours, over a table
        else:
            message = f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}"
            # What was given is repeated where it is short.
            received = "a list or an object"
            if isinstance(error.get("input"), REPEATABLE):
                received = ascii(error["input"])
            lines.append(f"{message}, found {received}" if len(received) < 80 else message)
    if len(errors) > len(lines):
        lines.append(f"and {len(errors) - len(lines)} more")
    return "the request is not as /openapi.json says: " + "; ".join(lines)
