"""Rows that break the contract are set aside with a reason; none is dropped in silence.

Every check splits a table in clean and rejected rows: together they are the input. All of it works on whole columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract
from mtmh.data.files import write_parquet
from mtmh.data.missing_ids import missing_ids
from mtmh.data.near_ids import near_ids
from mtmh.data.times import EARLY, EVENTS, LATE, before, name_local, without_zeros
from mtmh.errors import UserError

REJECTED = pa.schema(
    [("table", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())]
)
Rule = tuple[str, np.ndarray]  # reason, bool [rows] that is True where a row breaks it


@dataclass(frozen=True)
class Checked:
    """A table split in two. `rejected` has table, row (0 = first of the input), reason, content (the row as JSON)."""

    clean: pa.Table
    rejected: pa.Table


def check_items(
    raw: pa.Table,
    file: str,
    id_features: list[str] | None = None,
    float_features: list[str] | None = None,
    unreadable: pa.Array | None = None,
) -> Checked:
    """Check `items`. `unreadable` (string [rows]) names rows that an importer could not read; null = fine."""
    columns = contract.item_columns(id_features or [], float_features or [])
    name_local(raw, "created_at", file)
    table = without_zeros(contract.conform(raw, columns, file), "created_at")
    rules = [
        *_empty_ids(table, ["item_id"]),
        *_outside_calendar(table, "created_at"),
        *_nameless_topics(table),
    ]
    rules += [
        (f"{name} is NaN or infinite", _not_finite(table[name])) for name in float_features or []
    ]
    rules = _unreadable(unreadable) + rules
    taken = _repeated(~_any(rules, table.num_rows), table["item_id"])
    return _split(
        "items", raw, table, [*rules, ("item_id is there twice, the first row is kept", taken)]
    )


def check_interactions(
    raw: pa.Table,
    file: str,
    items: Checked | None = None,
    unreadable: pa.Array | None = None,
    reject_missing_ids: bool = True,
) -> Checked:
    """Check `interactions`; with `items`, an item_id that is not among its clean rows is rejected.

    `reject_missing_ids`: so are the rows of a user or item whose id is the word for a missing value, in masses.
    """
    name_local(raw, "timestamp", file)
    table = contract.conform(raw, contract.INTERACTIONS, file)
    rules = _unreadable(unreadable) + _empty_ids(table, ["user_id", "item_id"])
    rules += [("timestamp is null", _mask(pc.is_null(table["timestamp"])))]
    rules += _outside_calendar(table, "timestamp")
    if reject_missing_ids:
        rules += [
            rule for name in ("user_id", "item_id") for rule in missing_ids(table[name], name)
        ]
    rules += [("value is NaN or infinite", _not_finite(table["value"]))]
    rules += [("dwell_seconds is NaN or infinite", _not_finite(table["dwell_seconds"]))]
    rules += [("dwell_seconds is negative", _mask(pc.less(table["dwell_seconds"], 0.0)))]
    if items is not None:
        rules += near_ids(table["item_id"], items.clean["item_id"], "interactions")
    rules += [(f"timestamp {EARLY}", _mask(before(table["timestamp"], EVENTS[0])))]
    rules += [(f"timestamp {LATE}", _mask(pc.invert(before(table["timestamp"], EVENTS[1]))))]
    same = _repeated(
        ~_any(rules, table.num_rows),
        *(table[name] for name in ("user_id", "item_id", "timestamp", "event")),
    )
    rules += [("the same user, item, timestamp and event as an earlier row", same)]
    return _split("interactions", raw, table, rules)


def check_concepts(
    raw: pa.Table, file: str, items: Checked, unreadable: pa.Array | None = None
) -> Checked:
    """Check `concepts`: a concept needs a known item, and a weight by which it can be drawn."""
    table = contract.conform(raw, contract.CONCEPTS, file)
    rules = _unreadable(unreadable) + _empty_ids(table, ["item_id", "concept"])
    rules += [("concept is blank", _mask(pc.equal(pc.utf8_trim_whitespace(table["concept"]), "")))]
    rules += [("weight is NaN or infinite", _not_finite(table["weight"]))]
    rules += [("weight is zero or negative", _mask(pc.less_equal(table["weight"], 0.0)))]
    rules += near_ids(table["item_id"], items.clean["item_id"], "concepts")
    return _split("concepts", raw, table, rules)


def set_aside(tables: dict[str, Checked], out: Path, max_share: float) -> int:
    """Write `out`/rejected.parquet if any row was rejected, print how many, and return the number.

    Raises UserError, after the file is written, when a table lost more than `max_share` of its rows.
    """
    rejected = pa.concat_tables([checked.rejected for checked in tables.values()])
    if rejected.num_rows == 0:
        return 0
    path = out / "rejected.parquet"
    write_parquet(rejected, path)
    complaints = []
    for name, checked in tables.items():
        bad, rows = checked.rejected.num_rows, checked.rejected.num_rows + checked.clean.num_rows
        if bad:
            print(
                f"{name}: {bad:,} of {rows:,} rows ({bad / rows:.2%}) rejected, see {path}"
                + "".join(worst(checked.rejected)),
                flush=True,
            )
        if bad > max_share * rows:
            head = f"{name}: {bad:,} of {rows:,} rows ({bad / rows:.1%}) break the contract; {max_share:.1%} may."
            complaints.append(head + "".join(worst(checked.rejected)))
    if complaints:
        advice = f"All of them, with reasons: {path}. Mend the data, or allow more by data.max_rejected_share."
        raise UserError("\n".join([*complaints, advice]))
    return rejected.num_rows


def worst(rejected: pa.Table, most: int = 3) -> list[str]:
    """A line for each of the `most` commonest reasons: how many rows it is of, and one of them."""
    counts = pc.value_counts(rejected["reason"])
    order = pc.sort_indices(counts.field("counts"), sort_keys=[("", "descending")])[:most]
    lines = []
    for reason, count in zip(
        counts.field("values").take(order), counts.field("counts").take(order), strict=True
    ):
        example = rejected.slice(pc.index(rejected["reason"], reason).as_py(), 1).to_pylist()[0]
        lines.append(
            f"\n  {count.as_py():,} x {reason.as_py()}, e.g. row {example['row']}: {example['content']}"
        )
    return lines


def _split(name: str, raw: pa.Table, table: pa.Table, rules: list[Rule]) -> Checked:
    """Give each row the first reason that applies."""
    code = np.zeros(table.num_rows, np.int8)
    for number, (_, broken) in enumerate(rules, start=1):
        code[broken & (code == 0)] = number
    rows = np.flatnonzero(code)
    if not len(rows):
        return Checked(table, REJECTED.empty_table())
    reasons = pa.array([""] + [reason for reason, _ in rules]).take(pa.array(code[rows]))
    content = _as_json(raw.take(pa.array(rows)))
    rejected = pa.table(
        [pa.repeat(pa.scalar(name), len(rows)), rows, reasons, content], schema=REJECTED
    )
    return Checked(table.filter(pa.array(code == 0)), rejected)


def _as_json(rows: pa.Table) -> pa.ChunkedArray:
    import duckdb

    columns = [_readable(column) for column in rows.itercolumns()]
    with duckdb.connect() as connection:
        connection.register("rows", pa.Table.from_arrays(columns, rows.column_names))
        return connection.sql(
            "select to_json(rows)::varchar as content from rows"
        ).to_arrow_table()["content"]


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
    return pc.if_else(inside, pc.binary_join_element_wise(text, zone, ""), number.cast(pa.string()))


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
    return [
        (
            f"{name} is outside the years 1 to 9999 (milliseconds or finer, read as seconds?)",
            _mask(pc.or_(early, late)),
        )
    ]


def _nameless_topics(table: pa.Table) -> list[Rule]:
    rules = []
    for name in ("l1_topics", "l2_topics"):
        topics = table[name].combine_chunks()
        nameless = ~_mask(pc.not_equal(pc.list_flatten(topics), ""))
        broken = np.zeros(table.num_rows, bool)
        broken[pc.list_parent_indices(topics).to_numpy()[nameless]] = True
        rules.append((f"{name} holds a null or empty topic", broken))
    return rules


def _not_finite(values: pa.ChunkedArray) -> np.ndarray:
    return _mask(pc.invert(pc.is_finite(values)))


def _repeated(among: np.ndarray, *columns: pa.ChunkedArray) -> np.ndarray:
    """True where an earlier row among `among` has the same values."""
    rows = np.flatnonzero(among)
    keys = [_codes(column.filter(pa.array(among))) for column in columns]
    order = np.lexsort([np.arange(len(rows)), *keys])
    same = np.ones(max(len(rows) - 1, 0), bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    repeated = np.zeros(len(among), bool)
    repeated[rows[order[1:][same]]] = True
    return repeated


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy()
    return column.combine_chunks().dictionary_encode().indices.to_numpy()


def _any(rules: list[Rule], rows: int) -> np.ndarray:
    return (
        np.logical_or.reduce([broken for _, broken in rules], axis=0)
        if rules
        else np.zeros(rows, bool)
    )


def _mask(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Null counts as False."""
    return pc.fill_null(values, False).to_numpy(
        **({} if isinstance(values, pa.ChunkedArray) else {"zero_copy_only": False})
    )
