"""From rows a user and day to means and covariances over users, at the end of each day."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tea_tasting.aggr import Aggregates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BEFORE = "before "  # the name of a column's pre-period sum is this and the column's name


@dataclass(frozen=True)
class Looks:
    """One arm at the end of each day: what is known of the users seen by then.

    aggregates: of the users' sums over the days so far; its figures are float64 [looks] instead of numbers. A mean is
        NaN without users, a variance without two of them.
    users: int64 [looks]; user_days: rows so far, int64 [looks]
    """

    aggregates: Aggregates
    users: Ints
    user_days: Ints


def looks(rows: pa.Table, days: pa.Array, columns: Sequence[str], before: pa.Table | None = None) -> Looks:
    """Running sums of an arm's users over `days` (ascending); rows of other days do not count.

    rows: day, user_id and `columns`, null = 0. before: user_id and some of `columns`, summed over a user's rows.
    A user counts from the first day with a row on, with zeros on the days without one. Rows may come in any order.
    """
    at = pc.index_in(rows["day"], value_set=days)
    rows = rows.append_column("_at", at).filter(pc.is_valid(at)).sort_by("_at")
    day = rows["_at"].to_numpy().astype(np.int64)
    # Numbered in order of first appearance: the users seen by a look are the first so many.
    users = rows["user_id"].cast(pa.string()).combine_chunks().dictionary_encode()
    who = users.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    values = _matrix(rows, columns)
    past, known = _past(users.dictionary, before, columns)

    sums = np.zeros((len(users.dictionary), len(columns)))
    ends = np.searchsorted(day, np.arange(len(days)), side="right")
    seen = np.append(-1, np.maximum.accumulate(who))[ends] + 1  # [looks]; -1 stands for no row yet
    means, covariances = [], []
    for start, end, count in zip(np.append(0, ends[:-1]), ends, seen, strict=True):
        np.add.at(sums, who[start:end], values[start:end])
        mean, covariance = _mean_and_covariance(np.hstack([sums[:count], past[:count]]))
        means.append(mean)
        covariances.append(covariance)
    names = [*columns, *(BEFORE + name for name in known)]
    return Looks(_aggregates(names, seen, np.array(means), np.array(covariances)), seen, ends.astype(np.int64))


def _matrix(rows: pa.Table, columns: Sequence[str]) -> Floats:
    """The columns as float64 [rows, columns]."""
    filled = [pc.fill_null(rows[name].cast(pa.float64()), 0.0).to_numpy() for name in columns]
    return np.column_stack(filled) if filled else np.zeros((rows.num_rows, 0))


def _past(users: pa.Array, before: pa.Table | None, columns: Sequence[str]) -> tuple[Floats, list[str]]:
    """Pre-period sums of the users, float64 [users, names], and the names of these columns."""
    if before is None:
        return np.zeros((len(users), 0)), []
    known = [name for name in columns if name in before.column_names]
    sums = np.zeros((len(users), len(known)))
    at = pc.index_in(before["user_id"], value_set=users)
    there = before.filter(pc.is_valid(at))
    np.add.at(sums, at.drop_null().to_numpy(), _matrix(there, known))
    return sums, known


def _mean_and_covariance(sums: Floats) -> tuple[Floats, Floats]:
    """Mean [columns] and covariance [columns, columns] of sums [users, columns]."""
    users, columns = sums.shape
    if users == 0:
        return np.full(columns, np.nan), np.full((columns, columns), np.nan)
    mean = sums.mean(axis=0)
    if users == 1:
        return mean, np.full((columns, columns), np.nan)
    centred = sums - mean
    return mean, centred.T @ centred / (users - 1)


def _aggregates(names: Sequence[str], users: Ints, means: Floats, covariances: Floats) -> Aggregates:
    """tea-tasting's form of means [looks, names] and covariances [looks, names, names]; its arithmetic takes arrays."""
    return Aggregates(
        count_=users,
        mean_={name: means[:, i] for i, name in enumerate(names)},
        var_={name: covariances[:, i, i] for i, name in enumerate(names)},
        cov_={(a, b): covariances[:, i, j] for i, a in enumerate(names) for j, b in enumerate(names)},
    )
