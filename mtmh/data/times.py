"""Times that cannot be true: zeros that stand for a missing time, and numbers that were read in a wrong unit."""

import pyarrow as pa
import pyarrow.compute as pc

DAY = 86_400
# Seconds or milliseconds since 1970, read a thousand times too fine or finer, lie within January 1970.
JANUARY_1970 = (0, 31 * DAY)  # seconds since 1970: first, and the first after it
EVENTS = (365 * DAY, 7_258_118_400)  # an event lies in the years 1971 to 2199
STORED = (
    DAY,
    7_258_118_400,
)  # what every online store of the features can hold: the second day of 1970 to 2199
MICROSECONDS = 10**6
UNIT = "seconds or milliseconds read as a finer unit? Write pd.to_datetime(numbers, unit='s' or 'ms', utc=True)"
EARLY = f"lies before 1971 ({UNIT})"
LATE = "lies after 2199 (a fine unit read as a coarser one, or 'never' written as a date?)"


def before(times: pa.ChunkedArray, second: int) -> pa.ChunkedArray:
    """Whether each timestamp[us] is earlier than `second` (since 1970); null stays null."""
    return pc.less(times.cast(pa.int64()), second * MICROSECONDS)


def without_zeros(table: pa.Table, column: str) -> pa.Table:
    """`table` with null where the timestamp[us] `column` lies in January 1970, and a printed line that says so."""
    times = table[column]
    first, end = JANUARY_1970
    zero = pc.and_(pc.invert(before(times, first)), before(times, end))
    rows = pc.sum(pc.fill_null(zero, False)).as_py() or 0
    if not rows:
        return table
    share = f"{rows:,} of {table.num_rows:,}"
    print(f"{column} lies in January 1970 in {share} rows: taken for missing ({UNIT})", flush=True)
    known = pc.if_else(pc.fill_null(zero, False), pa.scalar(None, times.type), times)
    return table.set_column(table.column_names.index(column), column, known)


def storable(times: pa.Array) -> pa.Array:
    """timestamp[us, UTC] moved into what an online store can hold; null stays null."""
    first, end = (second * MICROSECONDS for second in STORED)
    number = pc.max_element_wise(times.cast(pa.int64()), pa.scalar(first), skip_nulls=False)
    number = pc.min_element_wise(number, pa.scalar(end), skip_nulls=False)
    return number.cast(times.type)


def name_local(raw: pa.Table, column: str, file: str) -> None:
    """Print a line when the timestamps of `column` have no zone."""
    if column not in raw.column_names or not pa.types.is_timestamp(raw[column].type):
        return
    if raw[column].type.tz is None:
        advice = f"df[{column!r}].dt.tz_localize('Europe/Berlin')"
        print(
            f"{file}: {column} has no time zone: taken for UTC. If it is local time, write {advice}.",
            flush=True,
        )
