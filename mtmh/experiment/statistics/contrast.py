"""Two arms beside each other: the relative lift of a metric, its fixed and its always-valid
interval.

Both intervals are taken of log(treatment / control), where a ratio is close to normal and both arms
count alike, and then brought back to the lift treatment / control - 1.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student
from tea_tasting.aggr import Aggregates

Floats = NDArray[np.float64]
SIGNIFICANCE = 0.05  # every interval is of 95 %
FEWEST_FOR_CUPED = 30  # users an arm: from fewer, the slope that they estimate would be noise
NO_SPREAD = 1e-9  # a relative standard error below this is rounding: everyone has the same


@dataclass(frozen=True)
class Contrast:
    """A metric in both arms at each look; NaN where there is no such figure. All float64 [looks].

    relative_variances: of the two arms' values, each divided by the value's square.
    dfs: the degrees of freedom of these variances.
    """

    control: Floats
    treatment: Floats
    relative_variances: tuple[Floats, Floats]
    dfs: tuple[Floats, Floats]

    @property
    def se(self) -> Floats:
        """Standard error of log(treatment / control); NaN without one, or where no users differ."""
        se = np.sqrt(self.relative_variances[0] + self.relative_variances[1])
        positive = (self.control > 0) & (self.treatment > 0)
        return np.where(positive & (se > NO_SPREAD), se, np.nan)

    @property
    def df(self) -> Floats:
        """Degrees of freedom of the standard error (Welch and Satterthwaite)."""
        a, b = self.relative_variances
        df_a, df_b = self.dfs
        with np.errstate(divide="ignore", invalid="ignore"):
            return (a + b) ** 2 / (a**2 / df_a + b**2 / df_b)

    def over(self, parts: Floats) -> "Contrast":
        """The same with both arms' values divided by `parts`, float64 [looks]."""
        return replace(self, control=self.control / parts, treatment=self.treatment / parts)


@dataclass(frozen=True)
class Intervals:
    """The lift of a contrast and its 95 % intervals, float64 [looks]; NaN where there are none."""

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
    """Ratio of the means of two columns (None: of 1), adjusted by the ratio `past` (CUPED).

    The variance is the delta method's. The aggregates' figures are float64 [looks]. Also returns by
    how much each look's ratio was adjusted per unit of the past ratio, float64 [looks]: 0 without
    CUPED, with too few users for it, and where the past does not vary; and where the adjustment was
    refused, bool [looks], because an arm's adjusted ratio would be 0 or less, or its variance below
    0. Sources: Deng, Knoblich and Lu (2018) for ratios; Deng, Xu, Kohavi and Walker (2013) for
    CUPED.
    """
    arms: tuple[Any, Any] = (control, treatment)
    looks = len(control.count())
    slope = np.zeros(looks)
    refused = np.zeros(looks, bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = [
            (arm.mean(columns[0]) / arm.mean(columns[1]), arm.ratio_var(*columns)) for arm in arms
        ]
        ratios = plain
        if past is not None:
            slope, level = _slope(control, treatment, columns, past)
            adjusted = [
                # An arm's ratio at the past of both arms, and its variance times users.
                (
                    value - slope * (arm.mean(past[0]) / arm.mean(past[1]) - level),
                    variance
                    + slope**2 * arm.ratio_var(*past)
                    - 2 * slope * arm.ratio_cov(*columns, *past),
                )
                for arm, (value, variance) in zip(arms, plain, strict=True)
            ]
            # Where the adjustment breaks a ratio of one arm, both arms keep their plain ones.
            for (value, _), (moved, variance) in zip(plain, adjusted, strict=True):
                refused |= (slope != 0) & (value > 0) & ~((moved > 0) & (variance >= 0))
            slope = np.where(refused, 0.0, slope)
            ratios = [
                (np.where(slope, moved, value), np.where(slope, moved_variance, variance))
                for (value, variance), (moved, moved_variance) in zip(plain, adjusted, strict=True)
            ]
        values = [np.where(np.isfinite(value), value, np.nan) for value, _ in ratios]
        variances = [
            variance / arm.count() / value**2
            for arm, value, (_, variance) in zip(arms, values, ratios, strict=True)
        ]
    dfs = [np.asarray(arm.count() - 1, np.float64) for arm in arms]
    contrast = Contrast(values[0], values[1], (variances[0], variances[1]), (dfs[0], dfs[1]))
    return contrast, slope, refused


def _slope(
    control: Aggregates,
    treatment: Aggregates,
    columns: tuple[str, str | None],
    past: tuple[str, str | None],
) -> tuple[Floats, Floats]:
    """How much both arms' ratio follows the past one (0: unknown), and the past ratio of both."""
    names = [name for name in (*columns, *past) if name]
    # A sum of two arms' aggregates takes every pair of columns: so only of these.
    few = [
        Aggregates(
            arm.count(),
            {name: arm.mean(name) for name in names},
            {name: arm.var(name) for name in names},
            {(a, b): arm.cov(a, b) for a in names for b in names},
        )
        for arm in (control, treatment)
    ]
    both: Any = few[0] + few[1]
    slope = both.ratio_cov(*columns, *past) / both.ratio_var(*past)
    level = both.mean(past[0]) / both.mean(past[1])
    enough = np.minimum(control.count(), treatment.count()) >= FEWEST_FOR_CUPED
    return np.where(enough & np.isfinite(slope) & np.isfinite(level), slope, 0.0), level


def intervals(contrast: Contrast, progress: Floats) -> Intervals:
    """Lift, p and intervals at each look. progress: as `multiplier` takes it, float64 [looks].

    Where few users make Student's quantile wider than the normal one, the always-valid interval is
    widened as much.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = contrast.treatment / contrast.control
        ratio = np.where(np.isfinite(ratio), ratio, np.nan)
        se, df = contrast.se, contrast.df
        # Two-sided test and interval of the log ratio.
        quantile = student.ppf(1 - SIGNIFICANCE / 2, df)
        p = 2 * student.sf(np.abs(np.log(np.where(ratio > 0, ratio, np.nan))) / se, df)
        fixed = quantile * se
        always = multiplier(progress) * quantile / norm.ppf(1 - SIGNIFICANCE / 2) * se
        return Intervals(
            lift=ratio - 1,
            lo=ratio * np.exp(-fixed) - 1,
            hi=ratio * np.exp(fixed) - 1,
            p=p,
            always_lo=ratio * np.exp(-always) - 1,
            always_hi=ratio * np.exp(always) - 1,
        )


def multiplier(progress: Floats, significance: float = SIGNIFICANCE) -> Floats:
    """Half the always-valid interval's width in standard errors, float64 like `progress`.

    A 95 % interval is right 95 times of 100 when it is looked at once. Who looks every day for four
    weeks and stops at the first interval that leaves out 0 sees an effect where there is none about
    30 times of 100. The sequence of intervals here contains the truth at *all* looks together 95
    times of 100: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
    Ramdas (2024), which has no end that must be kept to. Its price: about 1.55 times as wide.

    progress: observations so far / those planned, where the interval is at its tightest; may exceed
    1; the result is inf where it is 0. What is planned must be known before the first look.

    With n r = progress * c and c = -2 log(s) + log(1 - 2 log(s)) of the significance s, which is
    tightest at progress 1: sqrt(2 (n r + 1) / (n r) * log(sqrt(n r + 1) / s)).

    What it needs of the clock: at an earlier look, the standard error is at most sqrt(progress now
    / progress then) times that of now. Progress is counted in user days. The days of one user say
    less than as many days of several users, which is on the safe side; days that say more as time
    goes on are not. The benchmark `aa` counts the false alarms.
    """
    best = -2 * np.log(significance) + np.log1p(-2 * np.log(significance))
    time = np.asarray(progress, np.float64) * best
    with np.errstate(divide="ignore"):
        return np.sqrt(2 * (1 + 1 / time) * np.log(np.sqrt(time + 1) / significance))
