"""Columns that came as text (CSV, JSON) in the contract's types; what was made of them is said."""

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract
from mtmh.data.formats.format import REASON
from mtmh.data.topics import as_topics
from mtmh.data.utf8 import LISTS

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
COMMA = r"^([+-]?\d+),(\d{1,2})$"  # 4,5; before three digits, a comma may stand for thousands
MISSING = r"(?i)^\s*(nan|na|n/a|null|none)?\s*$"  # in a column of numbers or times
ZONE = r":\d{2}(\.\d+)?(Z|[+-]\d{2}(:?\d{2})?)$|UTC$"  # at the end of a time, not of a date alone
NO_TEXT = pa.scalar(None, pa.string())
# A unit in microseconds (nanoseconds are finer), and the size below which numbers are of it.
UNITS = {"seconds": 10**6, "milliseconds": 10**3, "microseconds": 1}
SIZES = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17}


def typed(table: pa.Table, name: str, file: str, as_text: bool) -> pa.Table:
    """The table `name` with every contract column in its type.

    `as_text`: the columns are text as written. Rows with a text that is no number or time have a
    REASON, and the text in a column of its own. Further columns of the items that hold nothing but
    numbers can be float features: they become numbers.
    """
    for column in contract.TABLES[name]:
        if table.column_names.count(column.name) != 1:
            continue
        position, values = table.column_names.index(column.name), table[column.name]
        # Topics come as text, or as lists of text.
        kind = values.type
        kind = kind.value_type if any(is_list(kind) for is_list in LISTS) else kind
        is_text = not pa.types.is_null(kind) and contract.accepts(pa.string(), kind)
        if pa.types.is_list(column.type) and is_text:
            table = table.set_column(position, column.name, as_topics(values, column.name, file))
        elif as_text and pa.types.is_string(column.type):
            text = pc.if_else(pc.equal(values, ""), NO_TEXT, values)
            table = table.set_column(position, column.name, text)
        elif as_text:
            table = _parse_column(table, column, file)
    if not as_text or name != "items":
        return table
    # The further columns of the items, that can be features.
    names = {column.name for column in contract.ITEMS} | {REASON, "line.json"}
    for position, further in enumerate(table.column_names):
        if further in names or further.endswith(" as written"):
            continue
        if not pa.types.is_string(table[further].type):
            continue
        text = _trimmed(table[further])
        if pc.all(pc.match_substring_regex(text, NUMBER)).as_py() and text.null_count < len(text):
            print(f"items: {further} is read as a number", flush=True)
            table = table.set_column(position, further, text.cast(pa.float64()))
    return table


def times(text: pa.ChunkedArray, about: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The text as times in UTC, null where it is none, and a mask of the rows where it is none; how
    is printed.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, by their size; all
    else is ISO 8601, with a zone or without (then it is UTC).
    """
    text = _trimmed(text)
    numeric = pc.match_substring_regex(text, NUMBER)
    share = pc.mean(pc.fill_null(numeric, False)).as_py() or 0.0
    if share > 0.5:
        result = _from_numbers(text, numeric, about)
    else:
        # Microseconds since 1970, with or without a zone: so both come in one column.
        sql = f"""
            select
                case
                    when regexp_matches(text, '{ZONE}')
                    then epoch_us(try_cast(text as timestamptz))
                    else epoch_us(try_cast(text as timestamp))
                end as time
            from written
        """
        with duckdb.connect() as connection:
            connection.register("written", pa.table({"text": text}))
            time = connection.sql(sql).to_arrow_table()["time"]
        zoned = pc.any(pc.match_substring_regex(text, ZONE)).as_py()
        zone = "" if zoned else " without a zone, taken for UTC"
        print(f"{about}: read as dates and times{zone}", flush=True)
        result = time.cast(contract.UTC_MICROSECONDS)
    return result, pc.and_(pc.is_valid(text), pc.is_null(result))


def numbers(text: pa.ChunkedArray, about: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The text as float64, null where it is none, and a mask of the rows where it is none."""
    text = _trimmed(text)
    if pc.any(pc.match_substring_regex(text, COMMA)).as_py():
        print(f"{about}: a comma is read as the decimal point, as in 4,5", flush=True)
        text = pc.replace_substring_regex(text, COMMA, r"\1.\2")
    good = pc.match_substring_regex(text, NUMBER)
    return pc.if_else(good, text, NO_TEXT).cast(pa.float64()), pc.invert(good)


def _trimmed(text: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.match_substring_regex(text, MISSING), NO_TEXT, text)


def _parse_column(table: pa.Table, column: contract.Column, file: str) -> pa.Table:
    """Times and numbers of text; where it is neither, the row gets a REASON and its text stays."""
    values, about = table[column.name], f"{file}: {column.name}"
    is_time = pa.types.is_timestamp(column.type)
    result, bad = times(values, about) if is_time else numbers(values, about)
    table = table.set_column(table.column_names.index(column.name), column.name, result)
    bad = pc.fill_null(bad, False)
    if not pc.any(bad).as_py():
        return table
    reason = pc.if_else(bad, f"{column.name} is not a {'time' if is_time else 'number'}", NO_TEXT)
    if REASON in table.column_names:
        # The first reason of a row stays.
        reason = pc.coalesce(table[REASON], reason)
        table = table.drop_columns([REASON])
    written = pc.if_else(bad, values, NO_TEXT)
    table = table.append_column(REASON, reason)
    return table.append_column(f"{column.name} as written", written)


def _from_numbers(text: pa.ChunkedArray, numeric: pa.ChunkedArray, about: str) -> pa.ChunkedArray:
    # Whole numbers are read as integers: float64 would lose microseconds.
    whole = pc.match_substring_regex(text, r"^[+-]?(\d{1,18}|[1-8]\d{18})(\.0*)?$")
    whole_text = pc.replace_substring_regex(pc.if_else(whole, text, NO_TEXT), r"^\+|\.0*$", "")
    integer = whole_text.cast(pa.int64())
    number = pc.if_else(numeric, text, NO_TEXT).cast(pa.float64())
    # The unit is that in which the typical time lies in our century.
    typical = pc.approximate_median(pc.abs(number)).as_py()
    unit = next((name for name, most in SIZES.items() if typical < most), "nanoseconds")
    print(f"{about}: read as {unit} since 1970", flush=True)
    if unit == "nanoseconds":
        return pc.divide(integer, 1000).cast(contract.UTC_MICROSECONDS)
    per_unit = UNITS[unit]
    # What does not fit in microseconds is no time.
    inside = pc.less(pc.abs(number), (2**62) / per_unit)
    number = pc.if_else(inside, number, pa.scalar(None, pa.float64()))
    integer = pc.if_else(inside, integer, pa.scalar(None, pa.int64()))
    rounded = pc.round(pc.multiply(number, per_unit)).cast(pa.int64())
    exact = pc.multiply(integer, per_unit)
    return pc.coalesce(exact, rounded).cast(contract.UTC_MICROSECONDS)
