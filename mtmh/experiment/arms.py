"""Arms of an experiment, and which of them a unit (a user) is in (paper section 7).

A unit is in the bucket sha256(salt + unit) mod 10,000, and every bucket belongs to an arm.

The buckets are dealt out to the arms in order: the first arm starts with all of them, and each further arm takes its
share of the buckets evenly from those before it. What that guarantees:

- the same salt, unit and weights give the same arm, on every machine and in every process; alpha, K_ann and the version
  of an arm may change without anyone changing arms
- an arm added at the end takes its share from every arm before it in proportion, and nobody moves between those; taking
  it out again (or giving it weight 0) brings back exactly what was before
- the last arm has its share of the 10,000 buckets to the nearest bucket, so two arms have theirs exactly; every further
  arm may put those before it off by one bucket (0.01 % of the units)
- any other change (another order, a weight or an arm in the middle) moves units between arms: take another salt then,
  so that what they saw before is spread evenly over the new arms
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mtmh.errors import UserError

BUCKETS = 10_000
NO_ARM = "none"  # what the log has where no experiment runs, or there is no user to assign


class Arm(BaseModel):
    """What the units of an arm get; None stands for the champion's own. Weights count relative to their sum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$")]
    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0  # 0: nobody, and the arms after it stay
    alpha: Annotated[float, Field(ge=0.0, le=100.0)] | None = None  # percent from the engagement head
    k_ann: Annotated[int, Field(ge=1)] | None = None
    version: Annotated[str, Field(pattern=r"^[0-9]+$")] | None = None  # of the registered model


def _consistent(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    names = [arm.name for arm in arms]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each arm needs a name of its own; there twice: {', '.join(again)}")
    table = _dealt(tuple(arm.weight for arm in arms))
    counts = np.bincount(table, minlength=len(arms))
    if empty := [arm.name for arm, count in zip(arms, counts, strict=True) if arm.weight > 0 and count == 0]:
        raise ValueError(
            f"too small a weight for a single one of the {BUCKETS:,} buckets: {', '.join(empty)}; give more, or 0"
        )
    return arms


# For configurations: pydantic checks each arm, then all of them together.
Arms = Annotated[tuple[Arm, ...], AfterValidator(_consistent)]
_ARMS = TypeAdapter(Arms)


def read_arms(arms: Sequence[Mapping[str, Any]]) -> tuple[Arm, ...]:
    """Arms as a configuration names them. Raises UserError that tells everything that is wrong with them."""
    try:
        return _ARMS.validate_python(tuple(arms))
    except ValidationError as error:
        lines = [
            f"\n  {_place(one['loc'], arms)}{one['msg'].lower()}, found {one['input']!r}" for one in error.errors()
        ]
        example = "{name: more-relevance, weight: 1, alpha: 30}"
        raise UserError(f"the arms have {len(lines)} errors:{''.join(lines)}\nAn arm is, say, {example}.") from None


def bucket(unit: str, salt: str) -> int:
    """The unit's bucket, 0..9,999: the sha256 of salt and unit, one after the other in UTF-8, mod 10,000."""
    return int.from_bytes(hashlib.sha256((salt + unit).encode()).digest()) % BUCKETS


def assign(unit: str, salt: str, arms: Sequence[Arm]) -> Arm:
    """The arm that the unit is in. Raises ValueError when there are no arms, or none has a weight."""
    return arms[_dealt(tuple(arm.weight for arm in arms))[bucket(unit, salt)]]


def shares(arms: Sequence[Arm]) -> dict[str, float]:
    """Name -> share of the buckets, as dealt: what a sample-ratio check expects."""
    counts = np.bincount(_dealt(tuple(arm.weight for arm in arms)), minlength=len(arms))
    return {arm.name: int(count) / BUCKETS for arm, count in zip(arms, counts, strict=True)}


def buckets(units: pa.Array | pa.ChunkedArray, salt: str) -> pa.Array:
    """`bucket` of a whole column of strings: int32 [units], null where the unit is null."""
    import duckdb

    distinct = pc.unique(units)
    parts = [f"(('0x' || substr(hash, {1 + 16 * i}, 16))::ubigint % {BUCKETS}) * {_power(3 - i)}" for i in range(4)]
    with duckdb.connect() as connection:
        connection.register("units", pa.table({"unit": distinct, "row": np.arange(len(distinct))}))
        hashed = "select row, sha256($salt || unit) as hash from units"
        number = f"select (({' + '.join(parts)}) % {BUCKETS})::integer as bucket from ({hashed}) order by row"
        found = connection.execute(number, {"salt": salt}).to_arrow_table()["bucket"].combine_chunks()
    taken = found.take(pc.index_in(units, value_set=distinct))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


def assign_all(units: pa.Array | pa.ChunkedArray, salt: str, arms: Sequence[Arm]) -> pa.Array:
    """`assign` of a whole column: the arms' names, string [units], null where the unit is null."""
    table = pa.array(_dealt(tuple(arm.weight for arm in arms)))
    return pa.array([arm.name for arm in arms]).take(table.take(buckets(units, salt)))


@lru_cache(maxsize=64)
def _dealt(weights: tuple[float, ...]) -> np.ndarray:
    """The arm of each bucket: int16 [10,000]."""
    if not sum(weights) > 0:
        raise ValueError("there must be at least one arm with a weight above 0")
    table = np.zeros(BUCKETS, np.int16)
    total = 0.0
    for arm, weight in enumerate(weights):
        total += weight
        taken = round(BUCKETS * weight / total) if weight else 0
        if taken:
            by_arm = np.argsort(table, kind="stable")  # at even distances in here: from each arm its share
            table[by_arm[((np.arange(taken) + 0.5) * BUCKETS / taken).astype(np.int64)]] = arm
    return table


def _power(words: int) -> int:
    """What a 64-bit word of the hash counts, with `words` of them behind it, mod 10,000."""
    return pow(2, 64 * words, BUCKETS)


def _place(location: tuple[int | str, ...], arms: Sequence[Mapping[str, Any]]) -> str:
    if not location:
        return ""
    number, *keys = location
    name = arms[int(number)].get("name") if isinstance(arms[int(number)], Mapping) else None
    return ".".join([f"arm {name!r}" if name else f"arm {int(number) + 1}", *map(str, keys)]) + ": "
