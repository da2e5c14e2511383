"""What the log holds: one record a request that was answered, one a thing that a user did. The
schema, in one place.

Two kinds of record go into the log as dicts (`ExposureRecord`, `EngagementRecord`); two tables come
out (`EXPOSURES`, `ENGAGEMENTS`). A record of an exposure has the candidates of one answer as lists
side by side, in the order in which they were shown; the table has a row for each of them. An answer
without candidates exposes nobody to anything: it stands in the log, and gives no row.

An exposure is named by its `exposure_id`, which the router gives it; `request_id` is the caller's,
for tracing, and may stand on many. Records of log_version 1 have no exposure_id: their request_id
names them (`relations.identified`).

All times are UTC, in microseconds. A table's `day` is the UTC day of its timestamp: rows that come
late, or from a clock that is wrong, are filed under the day that they name.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

Id = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]

LONGEST_DWELL_SECONDS = 86_400.0  # of one engagement: a day has no more
LARGEST_VALUE = 1e6  # of an engagement, to both sides of 0; what lies beyond is no rating or weight

Value = Annotated[float, Field(strict=True, ge=-LARGEST_VALUE, le=LARGEST_VALUE)]
Dwell = Annotated[float, Field(strict=True, ge=0.0, le=LONGEST_DWELL_SECONDS)]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time lies outside the years 1 to 9999") from None


Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class ExposureRecord(BaseModel):
    """One answer of the router, as it was sent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["exposure"]
    exposure_id: Id | None = None  # the router's own, never the same again; None in log_version 1
    request_id: Id  # the caller's, for tracing: several answers may have the same one
    timestamp: Time  # when it was answered
    user_id: Id | None = None
    arm: Id  # the name of the arm
    model_version: Id
    alpha: Percent | None = None  # as used; None where the version's channels have quotas instead
    arm_alpha: Percent | None = None  # what the arm has; None in log_version 1
    own_alpha: bool | None = None  # whether the caller named alpha or quotas; None in log_version 1
    # The same by channel (head_settings.quotas_text), where alpha does not say it.
    quotas: Id | None = None
    arm_quotas: Id | None = None
    degraded: bool  # something did not answer in time, such as a head
    k: Annotated[int, Field(ge=1, lt=2**31)]  # candidates that were asked for
    surface: Literal["retrieve", "similar"]
    item_id: list[Id]  # the candidates, first one first; the lists below run beside it
    head: list[Id]  # the channel that each comes from: of a head alone, it has the head's name
    head_rank: list[Annotated[int, Field(ge=1, lt=2**31)]]  # rank in that channel's list, from 1
    score: list[Number]
    trigger_id: list[Id | None]  # the item that retrieved it
    log_version: Literal[1, 2] = 1

    @model_validator(mode="after")
    def _named(self) -> "ExposureRecord":
        if self.alpha is None and self.quotas is None:
            raise ValueError("alpha and quotas are both missing: an answer has one of them")
        arm = self.arm_quotas if self.alpha is None else self.arm_alpha
        if self.log_version > 1 and None in (self.exposure_id, arm, self.own_alpha):
            raise ValueError(
                "log_version 2 has exposure_id, own_alpha, and arm_alpha beside alpha or arm_quotas"
                " beside quotas"
            )
        return self

    @model_validator(mode="after")
    def _side_by_side(self) -> "ExposureRecord":
        n = len(self.item_id)
        if (
            not n
            == len(self.head)
            == len(self.head_rank)
            == len(self.score)
            == len(self.trigger_id)
        ):
            raise ValueError("item_id, head, head_rank, score and trigger_id must be equally long")
        return self


class EngagementRecord(BaseModel):
    """One thing that a user did, as the data contract's interactions have it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["engagement"]
    event_id: Id | None = None  # tells it from the user's others: sent again, it counts once
    # Of the call that brought it, and its position there, where that call's time is its own.
    call_id: Id | None = None
    exposure_id: Id | None = None  # of the answer that led to it, where that is known
    request_id: Id | None = None  # the same by the caller's id, or by the exposure's
    timestamp: Time  # when it happened
    user_id: Id
    item_id: Id
    event: Id
    value: Value = 1.0
    dwell_seconds: Dwell | None = None
    log_version: Literal[1, 2] = 1


RECORD: TypeAdapter[ExposureRecord | EngagementRecord] = TypeAdapter(
    Annotated[ExposureRecord | EngagementRecord, Field(discriminator="kind")]
)
_TIME = pa.timestamp("us", tz="UTC")
ANSWER = [
    pa.field("request_id", pa.string(), nullable=False),
    pa.field("timestamp", _TIME, nullable=False),
    pa.field("user_id", pa.string()),
    pa.field("arm", pa.string(), nullable=False),
    pa.field("model_version", pa.string(), nullable=False),
    pa.field("alpha", pa.float64()),
    pa.field("degraded", pa.bool_(), nullable=False),
    pa.field("k", pa.int32(), nullable=False),
    pa.field("surface", pa.string(), nullable=False),
    pa.field("log_version", pa.int32(), nullable=False),
    # From here on null in log_version 1, whose files may lack the columns.
    pa.field("exposure_id", pa.string()),
    pa.field("arm_alpha", pa.float64()),
    pa.field("own_alpha", pa.bool_()),
    # Null beside an alpha; files from before there were more than two channels lack the columns.
    pa.field("quotas", pa.string()),
    pa.field("arm_quotas", pa.string()),
]
CANDIDATE = [
    pa.field("item_id", pa.string(), nullable=False),
    pa.field("head", pa.string(), nullable=False),
    pa.field("head_rank", pa.int32(), nullable=False),
    pa.field("score", pa.float64(), nullable=False),
    pa.field("trigger_id", pa.string()),
]
_POSITION = pa.field("position", pa.int32(), nullable=False)  # in the answer, from 1
# Of the timestamp; in Parquet it is the name of the folder.
_DAY = pa.field("day", pa.date32(), nullable=False)
EXPOSURES = pa.schema([*ANSWER, *CANDIDATE, _POSITION, _DAY])  # one row a candidate shown
ENGAGEMENTS = pa.schema(  # one row an event
    [
        pa.field("request_id", pa.string()),
        pa.field("timestamp", _TIME, nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("dwell_seconds", pa.float64()),
        pa.field("log_version", pa.int32(), nullable=False),
        pa.field("exposure_id", pa.string()),  # from here on as above
        pa.field("event_id", pa.string()),
        pa.field("call_id", pa.string()),
        _DAY,
    ]
)


def encode(record: dict[str, Any]) -> bytes:
    """A record as one line of JSON, without the line's end. Raises ValueError that names what is
    wrong with it.
    """
    try:
        return RECORD.validate_python(record).model_dump_json(exclude_none=True).encode()
    except ValidationError as error:
        raise ValueError(f"no record of the log: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """What is wrong with a record, in one line: the first five errors of it."""
    faults = []
    for fault in error.errors()[:5]:
        where = ".".join(map(str, fault["loc"]))
        message = fault["msg"]
        faults.append(f"{where}: {message[:1].lower()}{message[1:]}")
    return "; ".join(faults)
