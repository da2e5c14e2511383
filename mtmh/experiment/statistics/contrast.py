"""Two arms beside each other: the relative lift of a metric, its fixed and its always-valid interval.

Both intervals are taken of log(treatment / control), where a ratio is close to normal and both arms count alike, and
then brought back to the lift treatment / control - 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student
from tea_tasting.aggr import Aggregates

from mtmh.experiment.statistics.always_valid import multiplier

Floats = NDArray[np.float64]
SIGNIFICANCE = 0.05
FEWEST_FOR_CUPED = 30  # users an arm: the slope is estimated from the same users, and from fewer it would be noise
NO_SPREAD = 1e-9  # a relative standard error below this is rounding: everyone has the same


@dataclass(frozen=True)
class Contrast:
    """A metric in both arms at each look; NaN where there is no such figure. All float64 [looks].

    relative_variances: of the two arms' values, each divided by the value's square.
    dfs: the degrees of df of these variances.
    """

    control: Floats
    treatment: Floats
    relative_variances: tuple[Floats, Floats]
    dfs: tuple[Floats, Floats]

    @property
    def se(self) -> Floats:
        """Standard error of log(treatment / control), NaN where it has none or the users do not differ."""
        se = np.sqrt(self.relative_variances[0] + self.relative_variances[1])
        positive = (self.control > 0) & (self.treatment > 0)
        return np.where(positive & (se > NO_SPREAD), se, np.nan)

    @property
    def df(self) -> Floats:
        """Degrees of df of the standard error (Welch and Satterthwaite)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            (a, b), (free_a, free_b) = self.relative_variances, self.dfs
            return (a + b) ** 2 / (a**2 / free_a + b**2 / free_b)

    def over(self, parts: Floats) -> "Contrast":
        """The same with both arms' values divided by `parts`, float64 [looks]."""
        return replace(self, control=self.control / parts, treatment=self.treatment / parts)


@dataclass(frozen=True)
class Intervals:
    """The lift of a contrast and its 95 % intervals, float64 [looks] each; NaN where there are none."""

    lift: Floats
    lo: Floats
    hi: Floats
    p: Floats
    always_lo: Floats
    always_hi: Floats


def ratio_contrast(
    control: Aggregates,
    treatment: Aggregates,
    columns: tuple[str, str | None],
    past: tuple[str, str | None] | None = None,
) -> tuple[Contrast, Floats, NDArray[np.bool_]]:
    """Ratio of the means of two columns (None: of 1) by the delta method, adjusted by the ratio `past` (CUPED).

    The aggregates' figures are float64 [looks]. Also returns by how much each look's ratio was adjusted per unit of the
    past ratio, float64 [looks]: 0 without CUPED, with too few users for it, and where the past does not vary; and where
    it was left out, bool [looks], because an arm's adjusted ratio would be 0 or less, or its variance below 0.
    Sources: Deng, Knoblich and Lu (2018) for ratios; Deng, Xu, Kohavi and Walker (2013) for CUPED.
    """
    arms: tuple[Any, Any] = (control, treatment)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = [(arm.mean(columns[0]) / arm.mean(columns[1]), arm.ratio_var(*columns)) for arm in arms]
        slope, refused = np.zeros(len(control.count())), np.zeros(len(control.count()), bool)
        ratios = plain
        if past is not None:
            slope, level = _slope(control, treatment, columns, past)
            adjusted = [
                _adjusted(arm, values, slope, level, columns, past) for arm, values in zip(arms, plain, strict=True)
            ]
            for (value, _), (other, variance) in zip(plain, adjusted, strict=True):
                refused |= (slope != 0) & (value > 0) & ~((other > 0) & (variance >= 0))
            slope = np.where(refused, 0.0, slope)
            ratios = [
                (np.where(slope, other, value), np.where(slope, other_variance, variance))
                for (value, variance), (other, other_variance) in zip(plain, adjusted, strict=True)
            ]
        values = [np.where(np.isfinite(value), value, np.nan) for value, _ in ratios]
        variances = [
            variance / arm.count() / value**2 for arm, value, (_, variance) in zip(arms, values, ratios, strict=True)
        ]
    dfs = [np.asarray(arm.count() - 1, np.float64) for arm in arms]
    return Contrast(values[0], values[1], (variances[0], variances[1]), (dfs[0], dfs[1])), slope, refused


def _slope(
    control: Aggregates, treatment: Aggregates, columns: tuple[str, str | None], past: tuple[str, str | None]
) -> tuple[Floats, Floats]:
    """How much of the past ratio both arms' ratio follows, 0 where that is not known; and the past ratio of both."""
    names = [name for name in (*columns, *past) if name]
    both: Any = _only(control, names) + _only(treatment, names)
    slope = both.ratio_cov(*columns, *past) / both.ratio_var(*past)
    level = both.mean(past[0]) / both.mean(past[1])
    enough = np.minimum(control.count(), treatment.count()) >= FEWEST_FOR_CUPED
    return np.where(enough & np.isfinite(slope) & np.isfinite(level), slope, 0.0), level


def _adjusted(
    arm: Any,
    plain: tuple[Floats, Floats],
    slope: Floats,
    level: Floats,
    columns: tuple[str, str | None],
    past: tuple[str, str | None],
) -> tuple[Floats, Floats]:
    """An arm's ratio at the past of both arms, and its variance times users."""
    value = plain[0] - slope * (arm.mean(past[0]) / arm.mean(past[1]) - level)
    return value, plain[1] + slope**2 * arm.ratio_var(*past) - 2 * slope * arm.ratio_cov(*columns, *past)


def _only(arm: Aggregates, names: Sequence[str]) -> Aggregates:
    """The aggregates of some columns: a sum of two arms' takes every pair of them."""
    return Aggregates(
        arm.count(),
        {name: arm.mean(name) for name in names},
        {name: arm.var(name) for name in names},
        {(a, b): arm.cov(a, b) for a in names for b in names},
    )


def intervals(contrast: Contrast, progress: Floats) -> Intervals:
    """Lift, p and intervals at each look. progress: as `multiplier` takes it, float64 [looks].

    Where few users make Student's quantile wider than the normal one, the always-valid interval is widened as much.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = contrast.treatment / contrast.control
        ratio = np.where(np.isfinite(ratio), ratio, np.nan)
        se, df = contrast.se, contrast.df
        quantile = student.ppf(1 - SIGNIFICANCE / 2, df)
        p = 2 * student.sf(np.abs(np.log(np.where(ratio > 0, ratio, np.nan))) / se, df)
        fixed, always = quantile * se, multiplier(progress) * quantile / norm.ppf(1 - SIGNIFICANCE / 2) * se
        lo, hi = ratio * np.exp(-fixed) - 1, ratio * np.exp(fixed) - 1
        return Intervals(ratio - 1, lo, hi, p, ratio * np.exp(-always) - 1, ratio * np.exp(always) - 1)
