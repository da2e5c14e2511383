"""The data contract (design.md) as a checked schema: which columns a table has, of which type,
filled with what.

A table that does not fit (a column missing, a wrong type, no rows) is an error at once: `conform`.
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

# Seconds since 1970; what a Python datetime can hold.
YEAR_1, YEAR_10000 = (
    -62_135_596_800,
    253_402_300_800,
)
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """One column of the contract.

    A column that is not required is filled with `default`, where null or missing.
    """

    name: str
    type: pa.DataType
    required: bool = False
    default: Any = None

    @property
    def advice(self) -> str:
        """What to write into the column, for people."""
        column = f"df[{self.name!r}]"
        if pa.types.is_string(self.type):
            return f"text, e.g. {column} = {column}.astype('string')"
        if pa.types.is_timestamp(self.type):
            call = f"{column} = pd.to_datetime({column}, utc=True)"
            return f'a timestamp in UTC, e.g. {call} (with unit="s" for seconds since 1970)'
        if pa.types.is_list(self.type):
            return 'a list of texts, e.g. ["Books", "Music"], [] where there is none'
        return f"a number, e.g. {column} = pd.to_numeric({column})"

    def fault(self, table: pa.Table, file: str) -> str | None:
        """Why `table` breaks the contract in this column; None where it does not."""
        count = table.column_names.count(self.name)
        # One that is not required is filled with its default.
        if count == 0:
            if not self.required:
                return None
            return (
                f"{file}: column {self.name!r} ({self.type}) is missing; it has"
                f" {', '.join(table.column_names) or 'none'}. Add it, or name the column that holds"
                f" it, as in --columns {self.name}=COLUMN: {self.advice}."
            )
        # To take one of them would be a guess.
        if count > 1:
            return f"{file}: column {self.name!r} is there {count} times. Keep one."
        # A column without any value comes from pandas as numbers, whatever it was meant to hold.
        values = table[self.name]
        if accepts(self.type, values.type) or (not self.required and _all_missing(values)):
            return None
        return (
            f"{file}: column {self.name!r} has type {values.type}, expected {self.type}. Write"
            f" {self.advice}."
        )

    def conform(self, table: pa.Table) -> pa.ChunkedArray:
        """The column of `table` in its type, with the default where there is no value."""
        absent = self.name not in table.column_names
        if absent or (not self.required and _all_missing(table[self.name])):
            default = pa.scalar(self.default, self.type)
            return pa.chunked_array([pa.repeat(default, table.num_rows)])
        values = table[self.name]
        # Times of any unit, UTC without a zone; those past the calendar stay outside it.
        if pa.types.is_timestamp(values.type):
            unit, number = values.type.unit, values.cast(pa.int64())
            # The coarse units would overflow when they become microseconds.
            if per_second := {"s": 1, "ms": 10**3}.get(unit):
                first, end = (YEAR_1 - 1) * per_second, YEAR_10000 * per_second
                number = pc.max_element_wise(number, pa.scalar(first), skip_nulls=False)
                number = pc.min_element_wise(number, pa.scalar(end), skip_nulls=False)
            zoned = number.cast(pa.timestamp(unit, tz="UTC"))
            values = zoned.cast(UTC_MICROSECONDS, safe=False)
        values = values.cast(self.type, safe=False)
        # NaN says that there is no value.
        if pa.types.is_floating(self.type) and not self.required:
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, self.type), values)
        if self.default is None:
            return values
        return pc.coalesce(values, pa.scalar(self.default, self.type))


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
TABLES = {"interactions": INTERACTIONS, "items": ITEMS, "concepts": CONCEPTS}
# What the stage features computes of an item's history; all zero for an item that was not there by
# the split.
STATISTICS = ("log_popularity", "log_recent_popularity", "log_age_days")


def item_columns(id_features: list[str], float_features: list[str]) -> tuple[Column, ...]:
    """The contract of `items`, with the features that the configuration declares.

    Raises UserError on a bad name.
    """
    # A column of the contract may be an id feature too, where it is text.
    types = {column.name: column.type for column in ITEMS}
    for name in id_features:
        if types.get(name, pa.string()) != pa.string():
            raise UserError(
                f"data.id_features names {name!r}, which is no id: the contract has it as"
                f" {types[name]}."
            )
    # A float feature is always a column of its own: no column of the contract is a number.
    for name in float_features:
        if name in types or name in id_features:
            kind = "an id feature" if name in id_features else str(types[name])
            raise UserError(
                f"data.float_features names {name!r}, which is no number: it is {kind}."
            )
    # Those of the contract are in ITEMS already. A declared one must be there: it has no default.
    new_ids = [name for name in id_features if name not in types]
    ids = tuple(Column(name, pa.string(), required=True) for name in new_ids)
    floats = tuple(Column(name, pa.float64(), required=True) for name in float_features)
    return ITEMS + ids + floats


def conform(table: pa.Table, columns: tuple[Column, ...], file: str) -> pa.Table:
    """The contract's columns of `table`, in the contract's order and types, defaults filled in.

    Other columns are dropped. Raises UserError naming every missing column and every wrong type of
    the file at once, or that it has no rows.
    """
    faults = [fault for column in columns if (fault := column.fault(table, file))]
    if faults:
        raise UserError("\n".join(faults))
    if table.num_rows == 0:
        raise UserError(f"{file} has no rows. Give a file with at least one row.")
    schema = pa.schema([(column.name, column.type) for column in columns])
    return pa.Table.from_arrays([column.conform(table) for column in columns], schema=schema)


def read_parquet(path: Path) -> pa.Table:
    """Read one Parquet file. Raises UserError when it is missing or not Parquet."""
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Write the table there as Parquet.") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is not a readable Parquet file ({reason}). Write it anew."
        ) from None


def accepts(expected: pa.DataType, actual: pa.DataType) -> bool:
    """Whether a column of type `actual` can stand where the contract has `expected`."""
    if pa.types.is_null(actual):
        return True
    if pa.types.is_list(expected):
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return _is_any(actual, lists) and accepts(expected.value_type, actual.value_type)
    if pa.types.is_string(expected):
        text = actual.value_type if pa.types.is_dictionary(actual) else actual
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        return _is_any(text, texts)
    if pa.types.is_timestamp(expected):
        return pa.types.is_timestamp(actual)
    return _is_any(actual, (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal))


def _is_any(kind: pa.DataType, tests: tuple[Callable[[pa.DataType], bool], ...]) -> bool:
    return any(test(kind) for test in tests)


def _all_missing(values: pa.ChunkedArray) -> bool:
    """Whether there is nothing but NaN and null, as a column of any type becomes where no row has a
    value.
    """
    floats = pc.list_flatten(values) if pa.types.is_list(values.type) else values
    return pa.types.is_floating(floats.type) and bool(
        pc.all(pc.is_null(floats, nan_is_null=True)).as_py()
    )
