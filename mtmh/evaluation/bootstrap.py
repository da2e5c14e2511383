"""Paired bootstrap over users: how sure is a difference between challenger and champion?

Both were evaluated on the same users, so a resample draws users (with replacement) and takes both
models' figures of each user drawn: what makes a user easy or hard for both cancels out.

An interval is estimate +- t * standard error, the standard error taken from the resamples and t
from Student's law with users - 1 degrees of freedom. 500 resamples settle a standard error within
about 3 %, whereas the 0.8 % percentile that three corrected comparisons need would rest on four of
them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

_CELLS_AT_ONCE = 4_000_000  # resamples x users held in memory together: 32 MB of indices


@dataclass(frozen=True)
class Interval:
    """A difference, challenger - champion, of two fractions, and its two-sided
    interval (within -1 .. 1).
    """

    estimate: float
    low: float
    high: float

    @property
    def is_gain(self) -> bool:
        """The whole interval lies above 0."""
        return self.low > 0

    @property
    def is_loss(self) -> bool:
        """The whole interval lies below 0."""
        return self.high < 0


def mean_difference(
    challenger: Floats,
    champion: Floats,
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Interval of mean(challenger) - mean(champion), both [U] (recall of each user)."""
    _same_users(challenger, champion)
    users = len(challenger)
    difference = np.asarray(challenger, np.float64) - np.asarray(champion, np.float64)

    def statistic(sums: Floats) -> Floats:
        return sums[:, 0] / users

    return _interval(difference[:, None], statistic, confidence, resamples, seed)


def ratio_difference(
    challenger: tuple[Ints, Ints],
    champion: tuple[Ints, Ints],
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Interval of a difference of two ratios of sums; each side = (matches [U],
    retrieved [U]), as in relevance.

    Raises ValueError when a side retrieved nothing at all.
    """
    _same_users(*challenger, *champion)
    columns = np.stack([*challenger, *champion], axis=1).astype(np.float64)
    if not columns[:, [1, 3]].sum(axis=0).all():
        raise ValueError("a ratio of sums needs at least one retrieved item on either side")

    def statistic(sums: Floats) -> Floats:
        # A resample of users without a single retrieved item has no relevance: it counts as 0.
        return sums[:, 0] / np.maximum(sums[:, 1], 1.0) - sums[:, 2] / np.maximum(sums[:, 3], 1.0)

    return _interval(columns, statistic, confidence, resamples, seed)


def coverage_difference(
    challenger: Ints, champion: Ints, n_items: int, confidence: float, resamples: int, seed: int
) -> Interval:
    """Interval of the difference in coverage = distinct items shown to anyone /
    n_items; both int32 [U, P], -1 = none.

    Coverage is a count of distinct items, and resampling users as they are gets it wrong twice: a
    resample holds only 63 % of the users, which costs the model with more once-shown items more
    coverage, and the spread comes out up to half too small (items that happened not to be shown
    cannot appear). So the users are resampled over the jackknife's pseudo-values: a user counts for
    the items that nobody else was shown. Their variance is never too small on average (Efron and
    Stein, 1981), so noise decides at most as often as stated.
    """
    _same_users(challenger, champion)
    covered_a, alone_a = _cover(challenger, n_items)
    covered_b, alone_b = _cover(champion, n_items)
    estimate = (covered_a - covered_b) / n_items
    influence = (alone_a - alone_b) / n_items

    def statistic(sums: Floats) -> Floats:
        return estimate + sums[:, 0] - influence.sum()

    return _interval(influence[:, None], statistic, confidence, resamples, seed)


def _cover(items: Ints, n_items: int) -> tuple[int, Ints]:
    """Number of distinct items shown, and for each user the number of items shown
    to that user alone, [U].
    """
    is_item = items >= 0
    viewers = np.bincount(items[is_item], minlength=n_items)
    once = viewers == 1
    return int(np.count_nonzero(viewers)), (once[items] & is_item).sum(axis=1)


def _interval(
    columns: Floats,
    statistic: Callable[[Floats], Floats],
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    estimate = float(statistic(columns.sum(axis=0, keepdims=True))[0])
    users = len(columns)
    if users < 2:
        return Interval(estimate, -1.0, 1.0)
    # A resample is held as a count of each user, and in blocks: indices of all would not fit.
    rng = np.random.default_rng(seed)
    at_once = max(1, min(resamples, _CELLS_AT_ONCE // users))
    sums = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, users, (rows, users)) + users * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        sums.append(counts @ columns)
    # Student's law, as the standard error is itself an estimate.
    spread = float(statistic(np.concatenate(sums)).std(ddof=1))
    half = float(stdtrit(users - 1, (1 + confidence) / 2)) * spread
    return Interval(estimate, max(estimate - half, -1.0), min(estimate + half, 1.0))


def _same_users(*arrays: NDArray[np.generic]) -> None:
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"a paired comparison needs the same users on both sides, at least one; found {lengths}"
        )
