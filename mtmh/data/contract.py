"""The data contract (design.md) as a checked schema: which columns a table has, of which type, filled with what.

A table that is not in the contract's form (a column missing, a wrong type, no rows) is an error at once: `conform`.
Single rows that break the contract are set aside with a reason: mtmh/data/quarantine.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.errors import UserError

YEAR_1, YEAR_10000 = (
    -62_135_596_800,
    253_402_300_800,
)  # seconds since 1970; what a Python datetime can hold
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """One column of the contract. A column that is not required is filled with `default`, where null or missing."""

    name: str
    type: pa.DataType
    required: bool = False
    default: Any = None


INTERACTIONS = (
    Column("user_id", pa.string(), required=True),
    Column("item_id", pa.string(), required=True),
    Column("timestamp", UTC_MICROSECONDS, required=True),
    Column("event", pa.string(), default="engage"),
    Column("value", pa.float64(), default=1.0),
    Column("dwell_seconds", pa.float64()),
    Column("arm", pa.string()),
)
ITEMS = (
    Column("item_id", pa.string(), required=True),
    Column("title", pa.string(), default=""),
    Column("text", pa.string(), default=""),
    Column("image_path", pa.string()),
    Column("creator_id", pa.string()),
    Column("created_at", UTC_MICROSECONDS),
    Column("l1_topics", pa.list_(pa.string()), default=[]),
    Column("l2_topics", pa.list_(pa.string()), default=[]),
)
CONCEPTS = (
    Column("item_id", pa.string(), required=True),
    Column("concept", pa.string(), required=True),
    Column("source", pa.string(), default="tag"),
    Column("weight", pa.float64(), default=1.0),
)
# What the stage features computes of an item's history; all zero for an item that nobody knew by the split.
STATISTICS = ("log_popularity", "log_recent_popularity", "log_age_days")


def item_columns(id_features: list[str], float_features: list[str]) -> tuple[Column, ...]:
    """The contract of `items`, with the features that the configuration declares. Raises UserError on a bad name."""
    known = {column.name: column.type for column in ITEMS}
    for name in id_features:
        if known.get(name, pa.string()) != pa.string():
            raise UserError(
                f"data.id_features names {name!r}, which is no id: the contract has it as {known[name]}."
            )
    for name in float_features:
        if name in known or name in id_features:
            kind = "an id feature" if name in id_features else str(known[name])
            raise UserError(
                f"data.float_features names {name!r}, which is no number: it is {kind}."
            )
    ids = tuple(
        Column(name, pa.string(), required=True) for name in id_features if name not in known
    )
    floats = tuple(Column(name, pa.float64(), required=True) for name in float_features)
    return ITEMS + ids + floats


def conform(table: pa.Table, columns: tuple[Column, ...], file: str) -> pa.Table:
    """The contract's columns of `table`, in the contract's order and types, defaults filled in; other columns go.

    Raises UserError naming every missing column and every wrong type of the file at once, or that it has no rows.
    """
    faults = [fault for column in columns if (fault := _fault(table, column, file))]
    if faults:
        raise UserError("\n".join(faults))
    if table.num_rows == 0:
        raise UserError(f"{file} has no rows. Give a file with at least one row.")
    schema = pa.schema([(column.name, column.type) for column in columns])
    return pa.Table.from_arrays(
        [_conform_column(table, column) for column in columns], schema=schema
    )


def read_parquet(path: Path) -> pa.Table:
    """Read one Parquet file. Raises UserError when it is missing or not Parquet."""
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Write the table there as Parquet.") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}). Write it anew."
        ) from None


def _fault(table: pa.Table, column: Column, file: str) -> str | None:
    present = table.column_names.count(column.name)
    if present == 0 and column.required:
        found = ", ".join(table.column_names) or "none"
        return (
            f"{file}: column {column.name!r} ({column.type}) is missing; it has {found}."
            f" Add it, or name the column that holds it, as in --columns {column.name}=COLUMN: {_advice(column)}."
        )
    if present > 1:
        return f"{file}: column {column.name!r} is there {present} times. Keep one."
    if present and not column.required and _all_missing(table[column.name]):
        return None
    if present and not accepts(column.type, table[column.name].type):
        found = table[column.name].type
        return f"{file}: column {column.name!r} has type {found}, expected {column.type}. Write {_advice(column)}."
    return None


def _advice(column: Column) -> str:
    if pa.types.is_string(column.type):
        return f"text, e.g. df[{column.name!r}] = df[{column.name!r}].astype('string')"
    if pa.types.is_timestamp(column.type):
        call = f"df[{column.name!r}] = pd.to_datetime(df[{column.name!r}], utc=True)"
        return f'a timestamp in UTC, e.g. {call} (with unit="s" for seconds since 1970)'
    if pa.types.is_list(column.type):
        return 'a list of texts, e.g. ["Books", "Music"], [] where there is none'
    return f"a number, e.g. df[{column.name!r}] = pd.to_numeric(df[{column.name!r}])"


def accepts(expected: pa.DataType, found: pa.DataType) -> bool:
    """Whether a column of type `found` can stand where the contract has `expected`."""
    if pa.types.is_null(found):
        return True
    if pa.types.is_list(expected):
        nested = (
            pa.types.is_list(found)
            or pa.types.is_large_list(found)
            or pa.types.is_fixed_size_list(found)
        )
        return nested and accepts(expected.value_type, found.value_type)
    if pa.types.is_string(expected):
        text = found.value_type if pa.types.is_dictionary(found) else found
        return (
            pa.types.is_string(text)
            or pa.types.is_large_string(text)
            or pa.types.is_string_view(text)
        )
    if pa.types.is_timestamp(expected):
        return pa.types.is_timestamp(found)
    number: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_floating,
        pa.types.is_integer,
        pa.types.is_decimal,
    )
    return any(kind(found) for kind in number)


def _conform_column(table: pa.Table, column: Column) -> pa.ChunkedArray:
    if column.name not in table.column_names or (
        not column.required and _all_missing(table[column.name])
    ):
        return pa.chunked_array([pa.repeat(pa.scalar(column.default, column.type), table.num_rows)])
    values = table[column.name]
    if pa.types.is_timestamp(values.type):
        values = _as_utc(values)
    values = values.cast(column.type, safe=False)
    if pa.types.is_floating(column.type) and not column.required:  # NaN says that there is no value
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, column.type), values)
    return (
        values
        if column.default is None
        else pc.coalesce(values, pa.scalar(column.default, column.type))
    )


def _all_missing(values: pa.ChunkedArray) -> bool:
    """Whether there is nothing but NaN and null, as a column of any type becomes where no row has a value."""
    floats = pc.list_flatten(values) if pa.types.is_list(values.type) else values
    return pa.types.is_floating(floats.type) and bool(
        pc.all(pc.is_null(floats, nan_is_null=True)).as_py()
    )


def _as_utc(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any unit to microseconds; without a zone it is UTC. Times past the calendar stay just outside it, to be seen."""
    per_second = {"s": 1, "ms": 10**3}.get(values.type.unit)
    number = values.cast(pa.int64())
    if per_second:  # the coarse units overflow when they become microseconds
        number = pc.max_element_wise(number, pa.scalar((YEAR_1 - 1) * per_second), skip_nulls=False)
        number = pc.min_element_wise(number, pa.scalar(YEAR_10000 * per_second), skip_nulls=False)
    return number.cast(pa.timestamp(values.type.unit, tz="UTC")).cast(UTC_MICROSECONDS, safe=False)
