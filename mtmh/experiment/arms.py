"""Arms of an experiment, and which of them a unit (a user) is in (paper section 7).

A unit is in the bucket sha256(salt + unit) mod 10,000, and every bucket belongs to an arm.

The buckets are dealt out to the arms in order: the first arm starts with all of them, and each
further arm takes its share of the buckets evenly from those before it. What that guarantees:

- the same salt, unit and weights give the same arm, on every machine and in every process; alpha,
  K_ann and the version of an arm may change without anyone changing arms
- an arm added at the end takes its share from every arm before it in proportion, and nobody moves
  between those; taking it out again (or giving it weight 0) brings back exactly what was before
- the last arm has its share of the 10,000 buckets to the nearest bucket, so two arms have theirs
  exactly; every further arm may put those before it off by one bucket (0.01 % of the units)
- any other change (another order, a weight or an arm in the middle) moves units between arms: take
  another salt then, so that what they saw before is spread evenly over the new arms
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from mtmh.errors import UserError
from mtmh.head_settings import QuotaTable, quotas_text

BUCKETS = 10_000
MOST_ARMS = (
    100  # one has a hundredth of the buckets; dealing takes time with the square of their number
)
MOST_WEIGHT = 1e6
MOST_K_ANN = 10_000  # candidates of a head, 20 times what an answer may hold
NO_ARM = "none"  # what answers to units outside of an experiment are logged under


class Arm(BaseModel):
    """What the units of an arm get; None stands for the champion's. Weights count relative to their
    sum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S(.*\S)?$")]
    # With weight 0 nobody is in the arm, and the arms after it keep their users.
    weight: Annotated[float, Field(ge=0.0, le=MOST_WEIGHT, allow_inf_nan=False)] = 1.0
    alpha: Annotated[float, Field(ge=0.0, le=100.0)] | None = None  # % from the engagement head
    quotas: QuotaTable | None = None  # by channel, in place of alpha
    k_ann: Annotated[int, Field(ge=1, le=MOST_K_ANN)] | None = None
    # Number of the registered model's version.
    version: Annotated[str, Field(max_length=18, pattern=r"^[0-9]+$")] | None = None

    @property
    def mix(self) -> str:
        """Its own alpha or quotas for people, empty where they are the champion's."""
        if self.quotas is not None:
            return quotas_text(self.quotas)
        return "" if self.alpha is None else f"alpha {self.alpha:g}"

    @model_validator(mode="after")
    def _alpha_or_quotas(self) -> "Arm":
        if self.alpha is not None and self.quotas is not None:
            raise ValueError("alpha and quotas say the same: give the arm one of them")
        return self

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name.casefold() == NO_ARM:
            raise ValueError(
                f"{name!r} is what the log says of answers without an arm; give the arm another "
                "name"
            )
        if not name.isprintable():
            raise ValueError(
                "a name is of printable characters, as it stands in logs, figures and pages"
            )
        return name


def _check_arms(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    names = [arm.name for arm in arms]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each arm needs a name of its own; there twice: {', '.join(again)}")
    counts = np.bincount(_bucket_table(tuple(arm.weight for arm in arms)), minlength=len(arms))
    empty = [
        arm.name for arm, count in zip(arms, counts, strict=True) if arm.weight > 0 and count == 0
    ]
    if empty:
        raise ValueError(
            f"too small a weight for a single one of the {BUCKETS:,} buckets: {', '.join(empty)}; "
            "give more, or 0"
        )
    return arms


# For configurations: pydantic checks each arm, then all of them together.
Arms = Annotated[tuple[Arm, ...], Field(max_length=MOST_ARMS), AfterValidator(_check_arms)]
_ARMS = TypeAdapter(Arms)


def read_arms(arms: Sequence[Mapping[str, Any]]) -> tuple[Arm, ...]:
    """Arms as a configuration names them. Raises UserError with all that is wrong in them."""
    try:
        return _ARMS.validate_python(tuple(arms))
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            # An error of all arms together has no place: its words must do.
            where = ""  # "arm 'name'.key: ", or "arm 2.key: " where it has no name
            if fault["loc"]:
                number, *keys = fault["loc"]
                arm = arms[int(number)]
                # A person knows an arm by its name; the number is for one that has none.
                name = arm.get("name") if isinstance(arm, Mapping) else None
                arm_name = f"arm {name!r}" if name else f"arm {int(number) + 1}"
                where = ".".join([arm_name, *map(str, keys)]) + ": "
            lines.append(f"\n  {where}{fault['msg'].lower()}, found {fault['input']!r}")
        example = "{name: more-relevance, weight: 1, alpha: 30}"
        raise UserError(
            f"the arms have {len(lines)} errors:{''.join(lines)}\nAn arm is, say, {example}."
        ) from None


def bucket(unit: str, salt: str) -> int:
    """The unit's bucket, 0..9,999: the sha256 of salt and unit, one after the other in UTF-8, mod
    10,000.
    """
    return int.from_bytes(hashlib.sha256((salt + unit).encode()).digest()) % BUCKETS


def assign(unit: str, salt: str, arms: Sequence[Arm]) -> Arm:
    """The arm that the unit is in. Raises ValueError without arms, or when none has a weight."""
    return arms[_bucket_table(tuple(arm.weight for arm in arms))[bucket(unit, salt)]]


def shares(arms: Sequence[Arm]) -> dict[str, float]:
    """Name -> share of the buckets, as dealt: what a sample-ratio check expects."""
    counts = np.bincount(_bucket_table(tuple(arm.weight for arm in arms)), minlength=len(arms))
    return {arm.name: int(count) / BUCKETS for arm, count in zip(arms, counts, strict=True)}


def buckets(units: pa.Array | pa.ChunkedArray, salt: str) -> pa.Array:
    """`bucket` of a whole column of strings: int32 [units], null where the unit is null."""
    import duckdb

    distinct = pc.unique(units)
    # The hash in 64-bit words, each times what it counts mod 10,000 (2^64 per word behind it).
    parts = [
        f"(('0x' || substr(hash, {1 + 16 * i}, 16))::ubigint % {BUCKETS}) * "
        f"{pow(2, 64 * (3 - i), BUCKETS)}"
        for i in range(4)
    ]
    hashed = "select row, sha256($salt || unit) as hash from units"
    query = f"select (({' + '.join(parts)}) % {BUCKETS})::integer as bucket from ({hashed})"
    with duckdb.connect() as connection:
        connection.register("units", pa.table({"unit": distinct, "row": np.arange(len(distinct))}))
        table = connection.execute(f"{query} order by row", {"salt": salt}).to_arrow_table()
    bucket_of = table["bucket"].combine_chunks()
    taken = bucket_of.take(pc.index_in(units, value_set=distinct))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


def assign_all(units: pa.Array | pa.ChunkedArray, salt: str, arms: Sequence[Arm]) -> pa.Array:
    """`assign` of a whole column: the arms' names, string [units], null where the unit is null."""
    table = pa.array(_bucket_table(tuple(arm.weight for arm in arms)))
    return pa.array([arm.name for arm in arms]).take(table.take(buckets(units, salt)))


@lru_cache(maxsize=64)  # dealt once for a set of weights, not once for each user
def _bucket_table(weights: tuple[float, ...]) -> np.ndarray:
    """The arm of each bucket: int16 [10,000]."""
    if not sum(weights) > 0:
        raise ValueError("there must be at least one arm with a weight above 0")
    table = np.zeros(BUCKETS, np.int16)
    total = 0.0
    for arm, weight in enumerate(weights):
        total += weight
        taken = round(BUCKETS * weight / total) if weight else 0
        if taken:
            by_arm = np.argsort(table, kind="stable")
            # At even distances in this order: each arm before gives its share.
            table[by_arm[((np.arange(taken) + 0.5) * BUCKETS / taken).astype(np.int64)]] = arm
    return table
