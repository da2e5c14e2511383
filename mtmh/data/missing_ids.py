"""Ids that are the word for a missing value, as `astype(str)` and exports of databases write it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WORDS = ("nan", "none", "null", "nil", "<na>", "nat", "na", "n/a", "#n/a", "undefined")
TIMES_THE_MEAN = 3  # a single user or item may well be called so; one with three times the usual rows is many in one


def missing_ids(ids: pa.ChunkedArray, column: str) -> list[tuple[str, np.ndarray]]:
    """A rule for each word that stands for a missing id in masses: (reason, bool [rows] that is True in its rows)."""
    counts = pc.value_counts(ids.drop_null())
    if not len(counts):
        return []
    words = pc.is_in(
        pc.ascii_lower(pc.utf8_trim_whitespace(counts.field("values"))), value_set=pa.array(WORDS)
    )
    many = pc.greater(counts.field("counts"), TIMES_THE_MEAN * len(ids) / len(counts))
    rules = []
    for row in counts.filter(pc.and_(words, many)).to_pylist():
        share = row["counts"] / len(ids)
        reason = (
            f"{column} is {row['values']!r} in {share:.1%} of the rows: the word for a missing one"
        )
        advice = " (leave these rows out, or keep them with data.missing_ids=keep)"
        rules.append(
            (reason + advice, pc.fill_null(pc.equal(ids, row["values"]), False).to_numpy())
        )
    return rules
