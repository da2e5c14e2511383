"""One arm beside another: every metric at the end of every day, and in words why a figure is
missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.errors import UserError
from mtmh.experiment.metrics import Metric
from mtmh.experiment.statistics.contrast import Contrast, Intervals, intervals, ratio_contrast
from mtmh.experiment.statistics.moments import BEFORE, Extremes, Looks, looks
from mtmh.experiment.statistics.set_metrics import set_contrasts
from mtmh.experiment.units import ITEM_COUNTS


@dataclass(frozen=True)
class ArmContrasts:
    """Contrasts and intervals by metric, in the metrics' order, with one look a day of `days`.

    Where the arms have no day in common, `days` is empty and the contrasts hold a single look of
    NaN.
    """

    arms: tuple[str, str]
    days: pa.Array
    users: tuple[int, int]
    contrasts: dict[str, Contrast]
    intervals: dict[str, Intervals]
    cuped: frozenset[str]
    refused: frozenset[str]  # not adjusted by their past, as an arm would be 0 or less
    extremes: tuple[Mapping[str, Extremes], Mapping[str, Extremes]]  # by column, of both arms
    left_out: str  # days that were not compared, in words

    @classmethod
    def without_days(
        cls, rows: list[pa.Table], arms: tuple[str, str], names: list[str], left_out: str
    ) -> "ArmContrasts":
        """Two arms without a day in common: a single look, of NaN."""
        nan = np.full(1, np.nan)
        contrast = Contrast(nan, nan, (nan, nan), (nan, nan))
        users = [pc.count_distinct(arm["user_id"]).as_py() for arm in rows]
        return cls(
            arms,
            days=pa.array([], rows[0]["day"].type),
            users=(users[0], users[1]),
            contrasts=dict.fromkeys(names, contrast),
            intervals=dict.fromkeys(names, intervals(contrast, np.ones(1))),
            cuped=frozenset(),
            refused=frozenset(),
            extremes=({}, {}),
            left_out=left_out,
        )

    def reason(self, metric: Metric) -> str:
        """Why the last look has no interval, and which days were left out; else empty."""
        unadjusted = ""
        if metric.name in self.refused:
            unadjusted = "not adjusted by the users' own past (CUPED): an arm would be 0 or less"
        return "; ".join(filter(None, [self._missing(metric), unadjusted, self.left_out]))

    def _missing(self, metric: Metric) -> str:
        for arm, users in zip(self.arms, self.users, strict=True):
            # The plainest reasons first: each of them makes the later ones true as well.
            if users == 0:
                return f"no users in arm {arm!r}"
        if not len(self.days):
            return "no day on which both arms have users"
        # Then a figure that an arm lacks, or that nothing can be relative to.
        contrast = self.contrasts[metric.name]
        for arm, values in zip(self.arms, (contrast.control, contrast.treatment), strict=True):
            value = values[-1]
            if np.isnan(value):
                what = (metric.denominator or metric.counts or "figure").replace("_", " ")
                return (
                    f"no {what} in arm {arm!r}"
                    if metric.counts
                    else f"{what} is 0 in arm {arm!r}: no ratio"
                )
            if value <= 0:
                return f"{value:.4g} in arm {arm!r}: a relative interval needs figures above 0"
        for arm, users in zip(self.arms, self.users, strict=True):
            # Both figures are there: it is their spread that is not known.
            if users == 1:
                return f"one user in arm {arm!r}: no interval"
        if np.isnan(self.intervals[metric.name].lo[-1]):
            return "the same for every user, or too few users: no interval"
        return ""


def compare(
    user_days: pa.Table,
    item_counts: pa.Table | None,
    arms: tuple[str, str],
    metrics: Mapping[str, Metric],
    before: pa.Table | None,
    planned_days: int,
) -> ArmContrasts:
    """Compare `arms`, control and treatment, on each of `metrics`; arguments as of `effects`."""
    if arms[0] == arms[1]:
        raise UserError(f"control and treatment are both {arms[0]!r}: name two arms.")
    if planned_days < 1:
        raise UserError(f"an experiment is planned for at least one day, found {planned_days}.")
    ratios = {name: metric for name, metric in metrics.items() if metric.is_ratio}
    sets = {}
    if item_counts is not None:
        sets = {name: metric for name, metric in metrics.items() if not metric.is_ratio}
    columns = {name for metric in ratios.values() for name in _columns(metric) if name}
    needed = ["arm", "day", "user_id", *(["bucket"] if sets else []), *sorted(columns)]
    _has_columns(user_days, "user_days", needed)
    rows = [user_days.filter(pc.equal(user_days["arm"], arm)) for arm in arms]
    days, left_out = _days_of_both(rows, arms)
    names = [name for name in metrics if name in ratios or name in sets]
    if not len(days):
        return ArmContrasts.without_days(rows, arms, names, left_out)
    if before is not None:
        _has_columns(before, "before", ["user_id"])
    control, treatment = looks(rows, days, sorted(columns), before, winsorized(ratios.values()))
    contrasts, cuped, refused = _ratio_contrasts(control, treatment, ratios, before)
    if sets and item_counts is not None:
        _has_columns(item_counts, "item_counts", ITEM_COUNTS.names)
        counts = [item_counts.filter(pc.equal(item_counts["arm"], arm)) for arm in arms]
        contrasts |= set_contrasts((rows[0], rows[1]), (counts[0], counts[1]), days, sets)
    contrasts = {name: contrasts[name] for name in names}

    # The always-valid interval's clock: user days so far over those to be expected by the end.
    so_far = control.user_days + treatment.user_days
    progress = so_far / (planned_days * so_far[0])
    return ArmContrasts(
        arms,
        days,
        (int(control.users[-1]), int(treatment.users[-1])),
        contrasts,
        {name: intervals(contrast, progress) for name, contrast in contrasts.items()},
        cuped,
        refused,
        extremes=(control.extremes, treatment.extremes),
        left_out=left_out,
    )


def _ratio_contrasts(
    control: Looks, treatment: Looks, ratios: Mapping[str, Metric], before: pa.Table | None
) -> tuple[dict[str, Contrast], frozenset[str], frozenset[str]]:
    """Contrast of each ratio metric; those adjusted by the past, and those where it was refused."""
    contrasts: dict[str, Contrast] = {}
    cuped, refused = set(), set()
    for name, metric in ratios.items():
        contrast, slope, is_refused = ratio_contrast(
            control.aggregates, treatment.aggregates, _columns(metric), past_of(metric, before)
        )
        if metric.denominator is None:  # per user and day
            contrast = contrast.over(np.arange(1.0, len(control.users) + 1))
        contrasts[name] = contrast
        if slope[-1]:
            cuped.add(name)
        if is_refused[-1]:
            refused.add(name)
    return contrasts, frozenset(cuped), frozenset(refused)


def winsorized(metrics: Iterable[Metric]) -> set[str]:
    """The columns of which users' largest totals do not count in full."""
    return {metric.numerator for metric in metrics if metric.winsorized and metric.numerator}


def _columns(metric: Metric) -> tuple[str, str | None]:
    return metric.numerator or "", metric.denominator


def past_of(metric: Metric, before: pa.Table | None) -> tuple[str, str | None] | None:
    """Names of the metric's own columns in the pre-period, None when the pre-period has not all of
    them.
    """
    numerator, denominator = _columns(metric)
    if before is None or not {numerator, denominator or numerator} <= set(before.column_names):
        return None
    return BEFORE + numerator, BEFORE + denominator if denominator else None


def _has_columns(table: pa.Table, name: str, columns: list[str]) -> None:
    if missing := [column for column in columns if column not in table.column_names]:
        raise UserError(
            f"{name} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(table.column_names)}."
        )


def _days_of_both(rows: list[pa.Table], arms: tuple[str, str]) -> tuple[pa.Array, str]:
    """Days on which both arms have rows, ascending; and, in words, those on which only one has."""
    days = [pc.unique(arm["day"]) for arm in rows]
    both = days[0].filter(pc.is_in(days[0], value_set=days[1]))
    left_out = []
    for arm, other, its, others in zip(arms, reversed(arms), days, reversed(days), strict=True):
        alone = its.filter(pc.invert(pc.is_in(its, value_set=others)))
        if len(alone) and len(others):
            left_out.append(
                f"{len(alone)} day(s) from {pc.min(alone)} on left out: only {arm!r} has users, "
                f"{other!r} none"
            )
    return both.take(pc.array_sort_indices(both)), "; ".join(left_out)
