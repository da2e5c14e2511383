"""Ids and times that cannot be true: words for a missing id, ids of two files written differently,
zeros that stand for a missing time, and numbers that were read in a wrong unit.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY = 86_400
# Seconds or milliseconds since 1970, read a thousand times too fine or finer, lie in January 1970.
JANUARY_1970 = (0, 31 * DAY)  # seconds since 1970: first, and the first after it
EVENTS = (365 * DAY, 7_258_118_400)  # an event lies in the years 1971 to 2199
MICROSECONDS = 10**6
UNIT = (
    "seconds or milliseconds read as a finer unit? Write pd.to_datetime(numbers, unit='s' or 'ms',"
    " utc=True)"
)
EARLY = f"lies before 1971 ({UNIT})"
LATE = "lies after 2199 (a fine unit read as a coarser one, or 'never' written as a date?)"

# Words for a missing id, as `astype(str)` and exports of databases write it.
MISSING_WORDS = ("nan", "none", "null", "nil", "<na>", "nat", "na", "n/a", "#n/a", "undefined")
# A single user or item may well be called so; with three times the usual rows it is many in one.
TIMES_THE_MEAN = 3

UNKNOWN = "item_id is not among the items"
# How the ids of the two files differ -> the form in which they would be equal.
NORMAL_FORMS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "blanks before or after": pc.utf8_trim_whitespace,
    "'.0' at the end": lambda ids: pc.replace_substring_regex(ids, r"^(-?\d+)\.0+$", r"\1"),
    "leading zeros": lambda ids: pc.replace_substring_regex(ids, r"^0+(.)", r"\1"),
    "letter case": pc.utf8_lower,
}


def before(times: pa.ChunkedArray, second: int) -> pa.ChunkedArray:
    """Whether each timestamp[us] is earlier than `second` (since 1970); null stays null."""
    return pc.less(times.cast(pa.int64()), second * MICROSECONDS)


def without_zeros(table: pa.Table, column: str) -> pa.Table:
    """`table` with null where the timestamp[us] `column` lies in January 1970; the run says so."""
    times = table[column]
    first, end = JANUARY_1970
    zero = pc.fill_null(pc.and_(pc.invert(before(times, first)), before(times, end)), False)
    rows = pc.sum(zero).as_py() or 0
    if not rows:
        return table
    share = f"{rows:,} of {table.num_rows:,}"
    print(f"{column} lies in January 1970 in {share} rows: taken for missing ({UNIT})", flush=True)
    nonzero = pc.if_else(zero, pa.scalar(None, times.type), times)
    return table.set_column(table.column_names.index(column), column, nonzero)


def name_local(raw: pa.Table, column: str, file: str) -> None:
    """Print a line when the timestamps of `column` have no zone."""
    if column not in raw.column_names or not pa.types.is_timestamp(raw[column].type):
        return
    if raw[column].type.tz is None:
        advice = f"df[{column!r}].dt.tz_localize('Europe/Berlin')"
        print(
            f"{file}: {column} has no time zone: taken for UTC. If it is local time, write"
            f" {advice}.",
            flush=True,
        )


def missing_ids(ids: pa.ChunkedArray, column: str) -> list[tuple[str, np.ndarray]]:
    """A rule (reason, bool [rows]) for each word that stands for a missing id in masses."""
    counts = pc.value_counts(ids.drop_null())
    if not len(counts):
        return []
    # Exports write the words in any case, with blanks around.
    values = pc.ascii_lower(pc.utf8_trim_whitespace(counts.field("values")))
    words = pc.is_in(values, value_set=pa.array(MISSING_WORDS))
    # A word alone says little: somebody may be called Na. It takes many rows as well.
    many = pc.greater(counts.field("counts"), TIMES_THE_MEAN * len(ids) / len(counts))
    rules = []
    for count in counts.filter(pc.and_(words, many)).to_pylist():
        share = count["counts"] / len(ids)
        reason = (
            f"{column} is {count['values']!r} in {share:.1%} of the rows: the word for a missing"
            " one (leave these rows out, or keep them with data.missing_ids=keep)"
        )
        # By the id as it is written, so that each way of writing has a line and a count of its own.
        rules.append((reason, _mask(pc.equal(ids, count["values"]))))
    return rules


def near_ids(
    item_id: pa.ChunkedArray, item_ids: pa.ChunkedArray, table: str
) -> list[tuple[str, np.ndarray]]:
    """Rules (reason, bool [rows]) for the ids that are not among `item_ids`, those of the items.

    A rule for each way of writing that keeps them from being equal, then one for all others.
    """
    item_ids = item_ids.combine_chunks()
    unknown = ~_mask(pc.is_in(item_id, value_set=item_ids))
    rules = []
    if unknown.any():
        strange = pc.unique(item_id.filter(pa.array(unknown))).drop_null()
        # Each way of writing on its own, then all of them together.
        ways = {difference: [form] for difference, form in NORMAL_FORMS.items()}
        several = "more than one of blanks, '.0', leading zeros and letter case"
        ways[several] = list(NORMAL_FORMS.values())
        for difference, forms in ways.items():
            normal, normal_items = strange, item_ids
            for form in forms:
                normal, normal_items = form(normal), form(normal_items)
            position = pc.index_in(normal, value_set=normal_items)
            near = pc.is_valid(position)
            if position.null_count == len(position):
                continue
            written, listed = strange.filter(near), item_ids.take(position.filter(near))
            reason = (
                f"{UNKNOWN}: item_ids of {table} differ from items in {difference}, e.g."
                f" {written[0].as_py()!r} where items has {listed[0].as_py()!r}; write both alike"
            )
            rules.append((reason, _mask(pc.is_in(item_id, value_set=written))))
    return [*rules, (UNKNOWN, unknown)]


def _mask(values: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy()
