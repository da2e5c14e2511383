"""Effects of a treatment on every metric: relative lift, intervals, p values corrected for the
number of metrics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from mtmh.experiment.metrics import METRICS, Metric
from mtmh.experiment.statistics.comparison import ArmContrasts, compare

PLANNED_DAYS = 14  # where a caller names no plan: two weeks


@dataclass(frozen=True)
class Winsorized:
    """What winsorizing did to a metric."""

    users: int  # whose totals were above the limit, in both arms
    limit: float  # a user's total over all days that counts at most
    # treatment / control - 1 of the plain means: neither winsorized nor adjusted by the past.
    plain_lift: float

    @classmethod
    def of(cls, contrasts: ArmContrasts, metric: Metric) -> Self | None:
        """What it did to `metric`; None where every user's total counts in full."""
        control, treatment = (arm.get(metric.numerator or "") for arm in contrasts.extremes)
        if not metric.winsorized or control is None or treatment is None:
            return None
        plain = treatment.mean / control.mean - 1 if control.mean > 0 else float("nan")
        return cls(control.winsorized + treatment.winsorized, control.limit, plain)


@dataclass(frozen=True)
class Largest:
    """How much of an arm's sum one user holds."""

    arm: str
    user_id: str
    column: str
    share: float  # after winsorizing

    @classmethod
    def of(cls, contrasts: ArmContrasts, metric: Metric) -> tuple[Self, ...]:
        """In each arm, of the metric's columns the one of which a single user holds most."""
        largest = []
        for arm, extremes in zip(contrasts.arms, contrasts.extremes, strict=True):
            names = (metric.numerator, metric.denominator)
            columns = [name for name in names if name is not None and name in extremes]
            if columns:
                name = max(columns, key=lambda column: extremes[column].share)
                largest.append(cls(arm, extremes[name].user_id, name, extremes[name].share))
        return tuple(largest)


@dataclass(frozen=True)
class Effect:
    """What the treatment does to one metric. All intervals are of 95 %; NaN where there is no
    answer, with a reason.

    Ratio metrics are the sum of the numerator over the users of an arm / that of the denominator;
    with CUPED both arms' values are those at the same past. Set metrics (distinct views, coverage
    ..) are means of the daily figure, both arms at the size of the smaller one.
    """

    metric: str
    control: float
    treatment: float
    lift: float  # treatment / control - 1
    lo: float  # of the lift, for those who look once, at the planned end
    hi: float
    p: float  # two-sided, of lift = 0; below 0.05 exactly when lo .. hi leaves out 0
    adjusted_p: float  # by `holm` over all metrics that have a p
    always_lo: float  # of the lift, for those who look every day
    always_hi: float
    cuped: bool
    users: tuple[int, int]  # of control and treatment
    reason: str = (
        ""  # why a figure is NaN, is not adjusted by the past, or which days were left out
    )
    winsorized: Winsorized | None = None  # None: every user's total counts in full
    largest: tuple[
        Largest, ...
    ] = ()  # of control and treatment, the user with the largest share of a column's sum

    @property
    def is_measured(self) -> bool:
        """Whether it has the interval that decides."""
        return not math.isnan(self.always_lo)

    @property
    def is_worse(self) -> bool:
        """Whether that interval lies on the side of 0 on which the metric is worse."""
        is_beyond = {"better": self.always_hi < 0, "worse": self.always_lo > 0}
        return is_beyond.get(METRICS[self.metric].higher, False)


def effects(
    user_days: pa.Table,
    item_counts: pa.Table | None,
    control: str,
    treatment: str,
    metrics: Mapping[str, Metric] = METRICS,
    before: pa.Table | None = None,
    planned_days: int = PLANNED_DAYS,
) -> list[Effect]:
    """The effect on every metric over all days of the tables, in the order of `metrics`.

    user_days, item_counts: as in mtmh/experiment/units.py; without item_counts the set metrics are
        left out. A day on which only one of the arms has rows is left out, and the reason says so.
    before: the pre-period, for CUPED: user_id and some columns of user_days, one or more rows a
        user, summed. A metric whose columns are there is adjusted for the user's own figure in the
        pre-period; who is not in it counts 0.
    planned_days: how long the experiment was planned to run; the always-valid interval is at its
    tightest there.

    An arm without users gives NaN with a reason. Raises UserError for missing columns, and for an
    arm beside itself.
    """
    contrasts = compare(user_days, item_counts, (control, treatment), metrics, before, planned_days)
    adjusted = holm([interval.p[-1] for interval in contrasts.intervals.values()])
    # The last look is the whole experiment.
    return [
        Effect(
            metric=name,
            control=float(contrasts.contrasts[name].control[-1]),
            treatment=float(contrasts.contrasts[name].treatment[-1]),
            lift=float(interval.lift[-1]),
            lo=float(interval.lo[-1]),
            hi=float(interval.hi[-1]),
            p=float(interval.p[-1]),
            adjusted_p=p,
            always_lo=float(interval.always_lo[-1]),
            always_hi=float(interval.always_hi[-1]),
            cuped=name in contrasts.cuped,
            users=contrasts.users,
            reason=contrasts.reason(metrics[name]),
            winsorized=Winsorized.of(contrasts, metrics[name]),
            largest=Largest.of(contrasts, metrics[name]),
        )
        for (name, interval), p in zip(contrasts.intervals.items(), adjusted, strict=True)
    ]


def effects_by_day(
    user_days: pa.Table,
    item_counts: pa.Table | None,
    control: str,
    treatment: str,
    metrics: Mapping[str, Metric] = METRICS,
    before: pa.Table | None = None,
    planned_days: int = PLANNED_DAYS,
) -> pa.Table:
    """What `effects` would have said at the end of each day, over the days up to it: one row a day
    and metric.

    Columns: day date32, metric string, and float64 control, treatment, lift, lo, hi, always_lo,
    always_hi. Without rows where the arms have no day in common.
    """
    contrasts = compare(user_days, item_counts, (control, treatment), metrics, before, planned_days)
    looks = len(contrasts.days)
    figures: dict[str, dict[str, Any]] = {}
    for name, interval in contrasts.intervals.items():
        arms = contrasts.contrasts[name]
        figures[name] = {"control": arms.control, "treatment": arms.treatment, **vars(interval)}
    table: dict[str, Any] = {
        "day": contrasts.days.take(pa.array(np.repeat(np.arange(looks), len(figures)))),
        "metric": pa.array(list(figures) * looks, pa.string()),
    }
    for column in ("control", "treatment", "lift", "lo", "hi", "always_lo", "always_hi"):
        # [metrics, looks] by rows of a look.
        by_metric = np.array([figure[column][:looks] for figure in figures.values()], np.float64)
        table[column] = by_metric.T.ravel()
    return pa.table(table)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for there being many (Holm, 1979); NaN stays NaN and does not count.

    Holm's and not Benjamini and Hochberg's, because a report is read as "these metrics moved": the
    chance that even one of them did not stays below 5 %, however the metrics hang together (some
    move against each other by construction).
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN sorts last
    adjusted = np.full(len(values), np.nan)
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * steps), 1.0)
    return [float(value) for value in adjusted]
