"""From rows a user and day to means and covariances over users, at the end of each day."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tea_tasting.aggr import Aggregates

from mtmh.experiment.definitions import DEFINITIONS
from mtmh.ids import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BEFORE = "before "  # the name of a column's pre-period sum is this and the column's name


@dataclass(frozen=True)
class Looks:
    """One arm at the end of each day: what is known of the users seen by then.

    aggregates: of the users' sums over the days so far; its figures are float64 [looks] instead of numbers. A mean is
        NaN without users, a variance without two of them.
    users: int64 [looks]; user_days: rows so far, int64 [looks]
    extremes: of each column, at the last look; empty without users.
    """

    aggregates: Aggregates
    users: Ints
    user_days: Ints
    extremes: Mapping[str, "Extremes"]


@dataclass(frozen=True)
class Extremes:
    """The largest users of a column in one arm."""

    mean: float  # of the users' totals before any of them was winsorized
    limit: float  # above which a total counts as the limit; inf for a column that is not winsorized
    winsorized: int  # users above it
    user_id: str  # whose total is the largest
    share: float  # of that total, winsorized, in the arm's sum; 0 where the sum is 0


@dataclass(frozen=True)
class _Arm:
    """One arm's rows, ordered by day; users are numbered in order of first appearance."""

    users: pa.Array  # string, the user's number is the row
    user: Ints  # [rows]
    values: Floats  # [rows, columns]
    past: Floats  # [users, pre-period columns]
    names: Sequence[str]  # of the columns and, behind them, of the pre-period's
    ends: Ints  # [looks]: rows up to the end of each day

    def seen(self) -> Ints:
        """Users with a row up to each look, [looks]; -1 stands for no row yet."""
        return np.asarray(np.append(-1, np.maximum.accumulate(self.user))[self.ends] + 1)

    def running(self) -> Iterator[Floats]:
        """Totals of the users seen by each look, [users so far, names]."""
        sums = np.zeros((len(self.users), self.values.shape[1]))
        for start, end, count in zip(np.append(0, self.ends[:-1]), self.ends, self.seen(), strict=True):
            np.add.at(sums, self.user[start:end], self.values[start:end])
            yield np.hstack([sums[:count], self.past[:count]])


def looks(
    arms: Sequence[pa.Table],
    days: pa.Array,
    columns: Sequence[str],
    before: pa.Table | None = None,
    winsorized: Collection[str] = (),
) -> list[Looks]:
    """Running sums of each arm's users over `days` (ascending); rows of other days do not count.

    arms: tables of day, user_id and `columns`, null = 0. before: user_id and some of `columns`, summed over a user's
    rows. A user counts from the first day with a row on, with zeros on the days without one. Rows may come in any
    order. winsorized: columns of which, and of whose pre-period, a user's total counts as at most
    `DEFINITIONS.winsorized_share` of the users of all arms have that have any.
    """
    parts = [_arm(rows, days, columns, before) for rows in arms]
    means: list[list[Floats]] = [[] for _ in parts]
    covariances: list[list[Floats]] = [[] for _ in parts]
    totals: tuple[Floats, ...] = tuple(np.zeros((0, len(part.names))) for part in parts)
    limits = np.zeros(len(parts[0].names))
    for totals in zip(*(part.running() for part in parts), strict=True):
        limits = _limits(np.vstack(totals), parts[0].names, winsorized)
        for number, own in enumerate(totals):
            mean, covariance = _mean_and_covariance(np.minimum(own, limits))
            means[number].append(mean)
            covariances[number].append(covariance)
    found = []
    for number, part in enumerate(parts):
        seen = part.seen()
        aggregates = _aggregates(part.names, seen, np.array(means[number]), np.array(covariances[number]))
        found.append(Looks(aggregates, seen, part.ends, _extremes(part, totals[number], limits)))
    return found


def _arm(rows: pa.Table, days: pa.Array, columns: Sequence[str], before: pa.Table | None) -> _Arm:
    day = Ids(days).rows(rows["day"])
    rows = rows.append_column("_at", pa.array(day)).filter(pa.array(day >= 0)).sort_by("_at")
    users = rows["user_id"].cast(pa.string()).combine_chunks().dictionary_encode()
    past, known = _past(users.dictionary, before, columns)
    return _Arm(
        users.dictionary,
        users.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        _matrix(rows, columns),
        past,
        [*columns, *(BEFORE + name for name in known)],
        np.searchsorted(rows["_at"].to_numpy(), np.arange(len(days)), side="right").astype(np.int64),
    )


def _limits(totals: Floats, names: Sequence[str], winsorized: Collection[str]) -> Floats:
    """The largest total that counts as it is: float64 [names], inf for a column that is not winsorized.

    Of users with a total above 0, so that a metric of which most users have nothing is not cut to nothing.
    """
    limits = np.full(len(names), np.inf)
    for number, name in enumerate(names):
        positive = totals[:, number][totals[:, number] > 0]
        if name.removeprefix(BEFORE) in winsorized and len(positive):
            limits[number] = np.quantile(positive, DEFINITIONS.winsorized_share, method="lower")
    return limits


def _extremes(arm: _Arm, totals: Floats, limits: Floats) -> dict[str, Extremes]:
    """Of each column, without those of the pre-period."""
    found = {}
    for number in range(arm.values.shape[1] if len(totals) else 0):
        own, limit = totals[:, number], float(limits[number])
        counted = np.minimum(own, limit)
        largest, total = int(own.argmax()), float(counted.sum())
        share = float(counted[largest] / total) if total > 0 else 0.0
        above = int((own > limit).sum())
        found[arm.names[number]] = Extremes(float(own.mean()), limit, above, arm.users[largest].as_py(), share)
    return found


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
    row = Ids(users).rows(before["user_id"])
    there = before.filter(pa.array(row >= 0))
    np.add.at(sums, row[row >= 0], _matrix(there, known))
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
