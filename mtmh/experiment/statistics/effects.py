"""Effects of a treatment on every metric: relative lift, intervals, p values corrected for the number of metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mtmh.experiment.metrics import METRICS, Metric
from mtmh.experiment.statistics.comparison import ArmContrasts, compare

PLANNED_DAYS = 14


@dataclass(frozen=True)
class Winsorized:
    """What winsorizing did to a metric."""

    users: int  # whose totals were above the limit, in both arms
    limit: float  # a user's total over all days that counts at most
    plain_lift: float  # treatment / control - 1 of the plain means: neither winsorized nor adjusted by the past


@dataclass(frozen=True)
class Largest:
    """How much of an arm's sum one user holds."""

    arm: str
    user_id: str
    column: str
    share: float  # after winsorizing


@dataclass(frozen=True)
class Effect:
    """What the treatment does to one metric. All intervals are of 95 %; NaN where there is no answer, with a reason.

    Ratio metrics are the sum of the numerator over the users of an arm / that of the denominator; with CUPED both
    arms' values are those at the same past. Set metrics (distinct views, coverage ..) are means of the daily figure,
    both arms at the size of the smaller one.
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
    reason: str = ""  # why a figure is NaN, is not adjusted by the past, or which days were left out
    winsorized: Winsorized | None = None  # None: every user's total counts in full
    largest: tuple[Largest, ...] = ()  # of control and treatment, the user with the largest share of a column's sum


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

    user_days, item_counts: as in mtmh/experiment/units.py; without item_counts the set metrics are left out. A day on
        which only one of the arms has rows is left out, and the reason says so.
    before: the pre-period, for CUPED: user_id and some columns of user_days, one or more rows a user, summed. A metric
        whose columns are there is adjusted for the user's own figure in the pre-period; who is not in it counts 0.
    planned_days: how long the experiment was planned to run; the always-valid interval is at its tightest there.

    An arm without users gives NaN with a reason. Raises UserError for missing columns, and for an arm beside itself.
    """
    found = compare(user_days, item_counts, (control, treatment), metrics, before, planned_days)
    adjusted = holm([each.p[-1] for each in found.intervals.values()])
    return [
        Effect(
            metric=name,
            control=float(found.contrasts[name].control[-1]),
            treatment=float(found.contrasts[name].treatment[-1]),
            lift=float(each.lift[-1]),
            lo=float(each.lo[-1]),
            hi=float(each.hi[-1]),
            p=float(each.p[-1]),
            adjusted_p=p,
            always_lo=float(each.always_lo[-1]),
            always_hi=float(each.always_hi[-1]),
            cuped=name in found.cuped,
            users=found.users,
            reason=found.reason(metrics[name]),
            winsorized=_winsorized(found, metrics[name]),
            largest=_largest(found, metrics[name]),
        )
        for (name, each), p in zip(found.intervals.items(), adjusted, strict=True)
    ]


def _winsorized(comparison: ArmContrasts, metric: Metric) -> Winsorized | None:
    control, treatment = (extremes.get(metric.numerator or "") for extremes in comparison.extremes)
    if not metric.winsorized or control is None or treatment is None:
        return None
    plain = treatment.mean / control.mean - 1 if control.mean > 0 else float("nan")
    return Winsorized(control.winsorized + treatment.winsorized, control.limit, plain)


def _largest(comparison: ArmContrasts, metric: Metric) -> tuple[Largest, ...]:
    """Of a metric's columns, in each arm, the one of which a single user holds most."""
    found = []
    for arm, extremes in zip(comparison.arms, comparison.extremes, strict=True):
        columns = [name for name in (metric.numerator, metric.denominator) if name is not None and name in extremes]
        if columns:
            name = max(columns, key=lambda column: extremes[column].share)
            found.append(Largest(arm, extremes[name].user_id, name, extremes[name].share))
    return tuple(found)


def effects_by_day(
    user_days: pa.Table,
    item_counts: pa.Table | None,
    control: str,
    treatment: str,
    metrics: Mapping[str, Metric] = METRICS,
    before: pa.Table | None = None,
    planned_days: int = PLANNED_DAYS,
) -> pa.Table:
    """What `effects` would have said at the end of each day, over the days up to it: one row a day and metric.

    Columns: day date32, metric string, and float64 control, treatment, lift, lo, hi, always_lo, always_hi. Without rows
    where the arms have no day in common.
    """
    found = compare(user_days, item_counts, (control, treatment), metrics, before, planned_days)
    looks = len(found.days)
    figures = {
        name: {"control": found.contrasts[name].control, "treatment": found.contrasts[name].treatment, **vars(each)}
        for name, each in found.intervals.items()
    }
    columns = ("control", "treatment", "lift", "lo", "hi", "always_lo", "always_hi")
    by_day = {
        column: np.array([each[column][:looks] for each in figures.values()], np.float64).T.ravel()
        for column in columns
    }
    return pa.table(
        {
            "day": found.days.take(pa.array(np.repeat(np.arange(looks), len(figures)))),
            "metric": pa.array(list(figures) * looks, pa.string()),
            **by_day,
        }
    )


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for there being many (Holm, 1979); NaN stays NaN and does not count.

    Holm's and not Benjamini and Hochberg's, because a report is read as "these metrics moved": the chance that even one
    of them did not stays below 5 %, however the metrics hang together (some move against each other by construction).
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN sorts last
    adjusted = np.full(len(values), np.nan)
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * steps), 1.0)
    return [float(value) for value in adjusted]
