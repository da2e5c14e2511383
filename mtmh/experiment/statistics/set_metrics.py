"""Set metrics (distinct items, coverage, entropy, Gini) of two arms of equal size, by a jackknife
over user buckets.

A distinct count is no sum over users: twice the users do not view twice the items. So arms are
compared at the same number of users, and the spread comes from leaving out the users of one bucket
at a time.

- Equal size: what the larger arm has over is taken off in proportion to what a bucket changes on
  average, up to `SURPLUS` of its users: so far a count is nearly straight in its users, and no
  bucket is left out by chance. Of an arm that is larger still, only as many buckets count, lowest
  first.
- Spread: each leave-one-out value is brought to the same number of users in the same way, so
  buckets that happen to hold more users do not count as noise. The jackknife's variance of such a
  function is never too small on average (Efron and Stein, 1981); for distinct counts of rarely
  shown items it is somewhat too large.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtmh.experiment.metrics import Metric
from mtmh.experiment.statistics.contrast import Contrast
from mtmh.ids import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BUCKETS = 100  # as UNIT_BUCKETS of mtmh/experiment/catalog.py, which numbers them
SURPLUS = 0.05  # share of the smaller arm's users


@dataclass(frozen=True)
class _Arm:
    """An arm's user buckets that take part, int64 [groups], and their users [looks, groups]."""

    counts: pa.Table
    buckets: Ints
    users: Ints

    def daily(self, days: pa.Array, metrics: Mapping[str, Metric]) -> dict[str, Floats]:
        """Each metric's figure of each day with all groups, then without one of them: float64
        [days, 1 + groups].
        """
        shape = len(days), 1 + len(self.buckets)
        figures = {name: np.full(shape, np.nan) for name in metrics}
        columns = sorted({(metric.over, metric.counts) for metric in metrics.values()}, key=str)
        for number, day in enumerate(days):
            of_day = self.counts.filter(pc.equal(self.counts["day"], day))
            for over, column in columns:
                rows = of_day.filter(pc.equal(of_day["over"], over))
                left, size = self.leave_one_out(rows, column)
                for name, metric in metrics.items():
                    of_counts = metric.of_counts
                    if (metric.over, metric.counts) == (over, column) and of_counts is not None:
                        figures[name][number] = [of_counts(row[row > 0], size) for row in left]
        return figures

    def leave_one_out(self, rows: pa.Table, column: str | None) -> tuple[Floats, int]:
        """Counts of each key, of all groups and then without one: float64 [1 + groups, keys]; and
        how many keys there could be.
        """
        group = np.full(BUCKETS, -1)
        group[self.buckets] = np.arange(len(self.buckets))
        of_group = group[rows["bucket"].to_numpy()]
        takes_part = of_group >= 0
        keys = rows["key"].combine_chunks().dictionary_encode()
        key = keys.indices.to_numpy(zero_copy_only=False)
        by_group = np.zeros((len(self.buckets), len(keys.dictionary)))
        values = pc.fill_null(rows[column].cast(pa.float64()), 0.0).to_numpy()
        np.add.at(by_group, (of_group[takes_part], key[takes_part]), values[takes_part])
        total = by_group.sum(axis=0)
        left = np.vstack([total, total - by_group])
        left[left < 1e-9 * total] = 0.0  # parts of an item do not cancel to the last digit
        return left, pc.max(rows["size"]).as_py() or 0

    def jackknife(self, figures: Floats, target: Floats) -> tuple[Floats, Floats]:
        """Value at `target` users [looks], and its variance (Efron and Stein, 1981).

        figures: with all groups and without one [looks, 1 + groups].
        """
        groups = len(self.buckets)
        everyone = self.users.sum(axis=1)
        whole, left = figures[:, 0], figures[:, 1:]
        # What a user adds on average takes every value to its number of users.
        per_user = (whole - left.mean(axis=1)) * groups / everyone
        value = whole - per_user * (everyone - target)
        surplus = (everyone[:, None] - self.users) - target[:, None] * (groups - 1) / groups
        left = left - per_user[:, None] * surplus
        squares = (left - left.mean(axis=1, keepdims=True)) ** 2
        variance = (groups - 1) / groups * squares.sum(axis=1)
        return value, variance if groups > 1 else np.full(len(target), np.nan)


def set_contrasts(
    user_days: tuple[pa.Table, pa.Table],
    item_counts: tuple[pa.Table, pa.Table],
    days: pa.Array,
    metrics: Mapping[str, Metric],
) -> dict[str, Contrast]:
    """The set metrics among `metrics` at the end of each of `days` (ascending): means of the daily
    figure so far.

    user_days, item_counts: of control and treatment. A day without a figure in one arm (nothing
    shown) counts in none.
    """
    # Of each arm, its users by bucket that were seen up to each look: [looks, BUCKETS].
    seen = []
    for rows in user_days:
        look = Ids(days).rows(rows["day"])
        of_users = rows.select(["user_id", "bucket"]).append_column("look", pa.array(look))
        of_users = of_users.filter(pa.array(look >= 0))
        users = of_users.group_by("user_id").aggregate([("look", "min"), ("bucket", "min")])
        new = np.zeros((len(days), BUCKETS), np.int64)
        np.add.at(new, (users["look_min"].to_numpy(), users["bucket_min"].to_numpy()), 1)
        seen.append(new.cumsum(axis=0))
    smaller = min(int(by_bucket[-1].sum()) for by_bucket in seen)
    arms = []
    for counts, by_bucket in zip(item_counts, seen, strict=True):
        # The buckets, lowest first, that hold as many users and not much more than SURPLUS.
        buckets = np.flatnonzero(by_bucket[-1])
        running = by_bucket[-1, buckets].cumsum()
        enough = int(np.searchsorted(running, smaller * (1 + SURPLUS))) + 1
        arms.append(_Arm(counts, buckets[:enough], by_bucket[:, buckets[:enough]]))
    set_metrics = {name: metric for name, metric in metrics.items() if not metric.is_ratio}
    daily = [arm.daily(days, set_metrics) for arm in arms]
    return {name: _contrast(arms, [figures[name] for figures in daily]) for name in set_metrics}


def _contrast(arms: list[_Arm], daily: list[Floats]) -> Contrast:
    """Both arms at the smaller one's size: the mean over the days on which both have a figure."""
    has_figure = np.isfinite(daily[0][:, 0]) & np.isfinite(daily[1][:, 0])
    days_so_far = np.where(has_figure.cumsum() > 0, has_figure.cumsum(), np.nan)
    sizes = [arm.users.sum(axis=1) for arm in arms]
    target = np.minimum(*sizes).astype(np.float64)
    values, variances, dfs = [], [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        for arm, figures in zip(arms, daily, strict=True):
            sums = np.where(has_figure[:, None], figures, 0.0).cumsum(axis=0)
            value, variance = arm.jackknife(sums / days_so_far[:, None], target)
            values.append(value)
            variances.append(variance / value**2)
            dfs.append(np.full(len(target), len(arm.buckets) - 1.0))
    return Contrast(values[0], values[1], (variances[0], variances[1]), (dfs[0], dfs[1]))
