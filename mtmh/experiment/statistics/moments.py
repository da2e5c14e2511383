"""From rows a user and day to means and covariances over users, at the end of each day."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tea_tasting.aggr import Aggregates

from mtmh.experiment.definitions import DEFINITIONS
from mtmh.ids import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PRE_PERIOD_DAYS = 28  # four weeks: every weekday is in it as often as any other
BEFORE = "before "  # the name of a column's pre-period sum is this and the column's name


@dataclass(frozen=True)
class Looks:
    """One arm at the end of each day: what is known of the users seen by then.

    aggregates: of the users' sums over the days so far; its figures are float64 [looks] instead of
        numbers. A mean is NaN without users, a variance without two of them.
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

    @classmethod
    def of(
        cls, rows: pa.Table, days: pa.Array, columns: Sequence[str], before: pa.Table | None
    ) -> "_Arm":
        """An arm's rows of these days, by day, beside what its users did before."""
        look = Ids(days).rows(rows["day"])
        rows = rows.append_column("_look", pa.array(look)).filter(pa.array(look >= 0))
        rows = rows.sort_by("_look")
        users = rows["user_id"].cast(pa.string()).combine_chunks().dictionary_encode()
        # Sums of the pre-period, of the columns that it has.
        names = [name for name in columns if before is not None and name in before.column_names]
        past = np.zeros((len(users.dictionary), len(names)))
        if before is not None:
            user = Ids(users.dictionary).rows(before["user_id"])
            of_users = before.filter(pa.array(user >= 0))
            np.add.at(past, user[user >= 0], _matrix(of_users, names))
        ends = np.searchsorted(rows["_look"].to_numpy(), np.arange(len(days)), side="right")
        return cls(
            users.dictionary,
            users.indices.to_numpy(zero_copy_only=False).astype(np.int64),
            _matrix(rows, columns),
            past,
            [*columns, *(BEFORE + name for name in names)],
            ends.astype(np.int64),
        )

    def seen(self) -> Ints:
        """Users with a row up to each look, [looks]; -1 stands for no row yet."""
        return np.asarray(np.append(-1, np.maximum.accumulate(self.user))[self.ends] + 1)

    def running(self) -> Iterator[Floats]:
        """Totals of the users seen by each look, [users so far, names]."""
        sums = np.zeros((len(self.users), self.values.shape[1]))
        for start, end, count in zip(
            np.append(0, self.ends[:-1]), self.ends, self.seen(), strict=True
        ):
            np.add.at(sums, self.user[start:end], self.values[start:end])
            yield np.hstack([sums[:count], self.past[:count]])

    def looks(
        self, means: list[Floats], covariances: list[Floats], totals: Floats, limits: Floats
    ) -> Looks:
        """The moments at each look in tea-tasting's form; `totals` and `limits` of the last one."""
        mean, covariance = np.array(means), np.array(covariances)
        # tea-tasting's arithmetic takes arrays of looks for numbers.
        aggregates = Aggregates(
            count_=self.seen(),
            mean_={name: mean[:, i] for i, name in enumerate(self.names)},
            var_={name: covariance[:, i, i] for i, name in enumerate(self.names)},
            cov_={
                (a, b): covariance[:, i, j]
                for i, a in enumerate(self.names)
                for j, b in enumerate(self.names)
            },
        )
        return Looks(aggregates, self.seen(), self.ends, self.extremes(totals, limits))

    def extremes(self, totals: Floats, limits: Floats) -> dict[str, Extremes]:
        """Of each column, without those of the pre-period; `totals` at the last look."""
        extremes = {}
        # Without users nobody is the largest.
        for number in range(self.values.shape[1] if len(totals) else 0):
            column = totals[:, number]
            limit = float(limits[number])
            # The share is of what the comparison counts: no total above the limit.
            counted = np.minimum(column, limit)
            largest = int(column.argmax())
            total = float(counted.sum())
            extremes[self.names[number]] = Extremes(
                mean=float(column.mean()),
                limit=limit,
                winsorized=int((column > limit).sum()),
                user_id=self.users[largest].as_py(),
                share=float(counted[largest] / total) if total > 0 else 0.0,
            )
        return extremes


def looks(
    arms: Sequence[pa.Table],
    days: pa.Array,
    columns: Sequence[str],
    before: pa.Table | None = None,
    winsorized: Collection[str] = (),
) -> list[Looks]:
    """Running sums of each arm's users over `days` (ascending); rows of other days do not count.

    arms: tables of day, user_id and `columns`, null = 0. before: user_id and some of `columns`,
    summed over a user's rows. A user counts from the first day with a row on, with zeros on the
    days without one. Rows may come in any order. winsorized: columns of which, and of whose
    pre-period, a user's total counts as at most `DEFINITIONS.winsorized_share` of the users of all
    arms have that have any.
    """
    parts = [_Arm.of(rows, days, columns, before) for rows in arms]
    names = parts[0].names
    means: list[list[Floats]] = [[] for _ in parts]
    covariances: list[list[Floats]] = [[] for _ in parts]
    totals: tuple[Floats, ...] = tuple(np.zeros((0, len(part.names))) for part in parts)
    limits = np.zeros(len(names))
    for totals in zip(*(part.running() for part in parts), strict=True):
        # Every look has limits of its own, from both arms' users so far. Only totals above 0 count,
        # so that a metric of which most users have nothing is not cut to nothing.
        limits = np.full(len(names), np.inf)
        for number, column in enumerate(np.vstack(totals).T):
            positive = column[column > 0]
            if names[number].removeprefix(BEFORE) in winsorized and len(positive):
                limits[number] = np.quantile(positive, DEFINITIONS.winsorized_share, method="lower")
        for number, users_totals in enumerate(totals):
            # A mean takes one user, a covariance two.
            sums = np.minimum(users_totals, limits)
            users = len(sums)
            mean = sums.mean(axis=0) if users else np.full(len(names), np.nan)
            covariance = np.full((len(names), len(names)), np.nan)
            if users > 1:
                centred = sums - mean
                covariance = centred.T @ centred / (users - 1)
            means[number].append(mean)
            covariances[number].append(covariance)
    return [
        part.looks(means[number], covariances[number], totals[number], limits)
        for number, part in enumerate(parts)
    ]


def _matrix(rows: pa.Table, columns: Sequence[str]) -> Floats:
    """The columns as float64 [rows, columns]."""
    filled = [pc.fill_null(rows[name].cast(pa.float64()), 0.0).to_numpy() for name in columns]
    return np.column_stack(filled) if filled else np.zeros((rows.num_rows, 0))


def pre_period(history: Path | pa.Table, first_day: date, days: int = PRE_PERIOD_DAYS) -> pa.Table:
    """Active days and seconds of each user in the `days` days before `first_day`.

    history: a Parquet file or a table of user_id, item_id, timestamp[, value, dwell_seconds]:
    engagements. Without a value they are all positive; without dwell there are no seconds. Returns
    user_id string, active int64 (days with a positive engagement) and, with dwell, seconds float64:
    columns as in `user_days`, so daily active users and time spent are adjusted by their own past.
    """
    is_table = isinstance(history, pa.Table)
    rows = ibis.memtable(history) if is_table else ibis.duckdb.connect().read_parquet(history)
    end = datetime.combine(first_day, time(), UTC)
    time_utc = rows.timestamp.cast("timestamp('UTC')")
    begin = end - timedelta(days=days)
    rows = rows.filter(
        time_utc >= ibis.literal(begin), time_utc < ibis.literal(end), rows.user_id.notnull()
    )
    positive = rows["value"].fill_null(1.0) > 0 if "value" in rows.columns else ibis.literal(True)
    day = rows.timestamp.cast("timestamp('UTC')").date()
    figures: dict[str, ir.Value] = {"active": day.nunique(where=positive)}
    if "dwell_seconds" in rows.columns:
        figures["seconds"] = rows.dwell_seconds.cast("float64").sum().fill_null(0.0)
    return rows.group_by("user_id").agg(**figures).order_by("user_id").to_pyarrow()
