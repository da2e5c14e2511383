"""Rows that break the contract are set aside with a reason; none is dropped in silence.

Every check splits a table in clean and rejected rows: together they are the input. All of it works
on whole columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract
from mtmh.data.files import write_parquet
from mtmh.data.plausibility import (
    EARLY,
    EVENTS,
    LATE,
    before,
    missing_ids,
    name_local,
    near_ids,
    without_zeros,
)
from mtmh.errors import UserError

REJECTED = pa.schema(
    [("table", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())]
)
Rule = tuple[str, np.ndarray]  # reason, bool [rows] that is True where a row breaks it


@dataclass(frozen=True)
class Checked:
    """A table split in two.

    `rejected` has table, row (0 = first of the input), reason, content (the row as JSON).
    """

    clean: pa.Table
    rejected: pa.Table


def check_items(
    raw: pa.Table,
    file: str,
    id_features: list[str] | None = None,
    float_features: list[str] | None = None,
    unreadable: pa.Array | None = None,
) -> Checked:
    """Check `items`.

    `unreadable` (string [rows]) names rows that an importer could not read; null = fine.
    """
    columns = contract.item_columns(id_features or [], float_features or [])
    name_local(raw, "created_at", file)
    table = without_zeros(contract.conform(raw, columns, file), "created_at")
    rules = _unreadable(unreadable) + _empty_ids(table, ["item_id"])
    rules += _outside_calendar(table, "created_at")
    for name in ("l1_topics", "l2_topics"):
        topics = table[name].combine_chunks()
        nameless = ~_mask(pc.not_equal(pc.list_flatten(topics), ""))
        # A row breaks the rule by any of its topics.
        broken = np.zeros(table.num_rows, bool)
        broken[pc.list_parent_indices(topics).to_numpy()[nameless]] = True
        rules.append((f"{name} holds a null or empty topic", broken))
    for name in float_features or []:
        rules.append((f"{name} is NaN or infinite", _not_finite(table[name])))
    # Only rows that no other rule rejects count as the first of their id.
    repeated = _repeated(~_any(rules, table.num_rows), table["item_id"])
    rules.append(("item_id is there twice, the first row is kept", repeated))
    return _apply_rules("items", raw, table, rules)


def check_interactions(
    raw: pa.Table,
    file: str,
    items: Checked | None = None,
    unreadable: pa.Array | None = None,
    reject_missing_ids: bool = True,
) -> Checked:
    """Check `interactions`; with `items`, an item_id that is not among its clean rows is rejected.

    `reject_missing_ids`: so are the rows of a user or item whose id is the word for a missing
    value, in masses.
    """
    name_local(raw, "timestamp", file)
    table = contract.conform(raw, contract.INTERACTIONS, file)
    time = table["timestamp"]
    rules = _unreadable(unreadable) + _empty_ids(table, ["user_id", "item_id"])
    rules.append(("timestamp is null", _mask(pc.is_null(time))))
    rules += _outside_calendar(table, "timestamp")
    if reject_missing_ids:
        rules += missing_ids(table["user_id"], "user_id")
        rules += missing_ids(table["item_id"], "item_id")
    rules.append(("value is NaN or infinite", _not_finite(table["value"])))
    rules.append(("dwell_seconds is NaN or infinite", _not_finite(table["dwell_seconds"])))
    rules.append(("dwell_seconds is negative", _mask(pc.less(table["dwell_seconds"], 0.0))))
    if items is not None:
        rules += near_ids(table["item_id"], items.clean["item_id"], "interactions")
    rules.append((f"timestamp {EARLY}", _mask(before(time, EVENTS[0]))))
    rules.append((f"timestamp {LATE}", _mask(pc.invert(before(time, EVENTS[1])))))
    # Only a row that no other rule rejects makes a later one a repetition.
    keys = (table["user_id"], table["item_id"], time, table["event"])
    repeated = _repeated(~_any(rules, table.num_rows), *keys)
    rules.append(("the same user, item, timestamp and event as an earlier row", repeated))
    return _apply_rules("interactions", raw, table, rules)


def check_concepts(
    raw: pa.Table, file: str, items: Checked, unreadable: pa.Array | None = None
) -> Checked:
    """Check `concepts`: a concept needs a known item, and a weight by which it can be drawn."""
    table = contract.conform(raw, contract.CONCEPTS, file)
    blank = pc.equal(pc.utf8_trim_whitespace(table["concept"]), "")
    rules = _unreadable(unreadable) + _empty_ids(table, ["item_id", "concept"])
    rules.append(("concept is blank", _mask(blank)))
    rules.append(("weight is NaN or infinite", _not_finite(table["weight"])))
    rules.append(("weight is zero or negative", _mask(pc.less_equal(table["weight"], 0.0))))
    rules += near_ids(table["item_id"], items.clean["item_id"], "concepts")
    return _apply_rules("concepts", raw, table, rules)


def set_aside(tables: dict[str, Checked], out: Path, max_share: float) -> int:
    """Write `out`/rejected.parquet if any row was rejected, print how many, and return the number.

    Raises UserError, after the file is written, when a table lost more than `max_share` of its
    rows.
    """
    rejected = pa.concat_tables([checked.rejected for checked in tables.values()])
    # No file without rows: that it is there says that something was rejected.
    if rejected.num_rows == 0:
        return 0
    # Written before anything stops: it shows what there is to mend.
    path = out / "rejected.parquet"
    write_parquet(rejected, path)
    faults = []
    for name, checked in tables.items():
        bad, rows = checked.rejected.num_rows, checked.rejected.num_rows + checked.clean.num_rows
        reasons = "".join(worst(checked.rejected))
        if bad:
            share = f"{bad:,} of {rows:,} rows ({bad / rows:.2%})"
            print(f"{name}: {share} rejected, see {path}{reasons}", flush=True)
        # All tables come first, so that one error names everything.
        if bad > max_share * rows:
            share = f"{bad:,} of {rows:,} rows ({bad / rows:.1%})"
            faults.append(f"{name}: {share} break the contract; {max_share:.1%} may.{reasons}")
    if faults:
        advice = (
            f"All of them, with reasons: {path}. Mend the data, or allow more by"
            " data.max_rejected_share."
        )
        raise UserError("\n".join([*faults, advice]))
    return rejected.num_rows


def worst(rejected: pa.Table, most: int = 3) -> list[str]:
    """A line for each of the `most` commonest reasons: how many rows have it, and an example."""
    counts = pc.value_counts(rejected["reason"])
    order = pc.sort_indices(counts.field("counts"), sort_keys=[("", "descending")])[:most]
    lines = []
    for count in counts.take(order).to_pylist():
        reason, rows = count["values"], count["counts"]
        example = rejected.slice(pc.index(rejected["reason"], reason).as_py(), 1).to_pylist()[0]
        row, content = example["row"], example["content"]
        lines.append(f"\n  {rows:,} x {reason}, e.g. row {row}: {content}")
    return lines


def _apply_rules(name: str, raw: pa.Table, table: pa.Table, rules: list[Rule]) -> Checked:
    """Split `table` by the rules; a rejected row gets the first reason that applies."""
    import duckdb

    code = np.zeros(table.num_rows, np.int8)
    for number, (_, broken) in enumerate(rules, start=1):
        code[broken & (code == 0)] = number
    rows = np.flatnonzero(code)
    if not len(rows):
        return Checked(table, REJECTED.empty_table())
    reasons = pa.array([""] + [reason for reason, _ in rules]).take(pa.array(code[rows]))
    # A rejected row is written out as it came, not as the contract has it.
    columns = [_readable(column) for column in raw.take(pa.array(rows)).itercolumns()]
    with duckdb.connect() as connection:
        connection.register("rows", pa.Table.from_arrays(columns, raw.column_names))
        json = connection.sql("select to_json(rows)::varchar as content from rows")
        content = json.to_arrow_table()["content"]
    names = pa.repeat(pa.scalar(name), len(rows))
    rejected = pa.table([names, rows, reasons, content], schema=REJECTED)
    return Checked(table.filter(pa.array(code == 0)), rejected)


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As a type that DuckDB can write as JSON. A time past the calendar stays a number."""
    if pa.types.is_float16(column.type):
        return column.cast(pa.float32())
    if pa.types.is_decimal256(column.type):
        return column.cast(pa.string())
    if not pa.types.is_timestamp(column.type):
        return column
    number, unit = column.cast(pa.int64()), column.type.unit
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    second = pc.divide(number, per_second)
    inside = pc.and_(pc.greater(second, contract.YEAR_1), pc.less(second, contract.YEAR_10000))
    text = pc.if_else(inside, number, 0).cast(pa.timestamp(unit)).cast(pa.string())
    zone = "" if column.type.tz is None else "Z"
    text = pc.binary_join_element_wise(text, zone, "")
    return pc.if_else(inside, text, number.cast(pa.string()))


def _unreadable(reasons: pa.Array | None) -> list[Rule]:
    if reasons is None:
        return []
    names = pc.unique(reasons).drop_null().to_pylist()
    return [(name, _mask(pc.equal(reasons, name))) for name in names]


def _empty_ids(table: pa.Table, names: list[str]) -> list[Rule]:
    return [(f"{name} is null or empty", ~_mask(pc.not_equal(table[name], ""))) for name in names]


def _outside_calendar(table: pa.Table, name: str) -> list[Rule]:
    number = table[name].cast(pa.int64())
    early = pc.less(number, contract.YEAR_1 * 10**6)
    late = pc.greater_equal(number, contract.YEAR_10000 * 10**6)
    reason = f"{name} is outside the years 1 to 9999 (milliseconds or finer, read as seconds?)"
    return [(reason, _mask(pc.or_(early, late)))]


def _not_finite(values: pa.ChunkedArray) -> np.ndarray:
    return _mask(pc.invert(pc.is_finite(values)))


def _repeated(candidates: np.ndarray, *columns: pa.ChunkedArray) -> np.ndarray:
    """True where an earlier row among `candidates` (bool [rows]) has the same values."""
    rows = np.flatnonzero(candidates)
    keys = []
    for column in columns:
        values = column.filter(pa.array(candidates))
        if pa.types.is_timestamp(values.type):
            keys.append(values.cast(pa.int64()).to_numpy())
        else:
            keys.append(values.combine_chunks().dictionary_encode().indices.to_numpy())
    # Equal rows become neighbours, in the order of the input.
    order = np.lexsort([np.arange(len(rows)), *keys])
    same = np.ones(max(len(rows) - 1, 0), bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    repeated = np.zeros(len(candidates), bool)
    repeated[rows[order[1:][same]]] = True
    return repeated


def _any(rules: list[Rule], rows: int) -> np.ndarray:
    """Bool [rows]: the row breaks one of the rules."""
    broken = np.zeros(rows, bool)
    for _, mask in rules:
        broken |= mask
    return broken


def _mask(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Null counts as False."""
    filled = pc.fill_null(values, False)
    if isinstance(filled, pa.ChunkedArray):
        return filled.to_numpy()
    return filled.to_numpy(zero_copy_only=False)
