"""One arm beside another: every metric at the end of every day, and in words why a figure is missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.errors import UserError
from mtmh.experiment.metrics import Metric
from mtmh.experiment.statistics.contrast import Contrast, Intervals, intervals, ratio_contrast
from mtmh.experiment.statistics.moments import BEFORE, Extremes, looks
from mtmh.experiment.statistics.set_metrics import set_contrasts
from mtmh.experiment.units import ITEM_COUNTS


@dataclass(frozen=True)
class ArmContrasts:
    """Contrasts and intervals by metric, in the metrics' order, with one look a day of `days`.

    Where the arms have no day in common, `days` is empty and the contrasts hold a single look of NaN.
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

    def reason(self, metric: Metric) -> str:
        """Why there is no interval at the last look, and which days were left out; empty when nothing is to be said."""
        return "; ".join(filter(None, [self._missing(metric), self._past(metric), self.left_out]))

    def _past(self, metric: Metric) -> str:
        if metric.name not in self.refused:
            return ""
        return "not adjusted by the users' own past (CUPED): an arm would be 0 or less"

    def _missing(self, metric: Metric) -> str:
        for arm, users in zip(self.arms, self.users, strict=True):
            if users == 0:
                return f"no users in arm {arm!r}"
        if not len(self.days):
            return "no day on which both arms have users"
        contrast = self.contrasts[metric.name]
        for arm, values in zip(self.arms, (contrast.control, contrast.treatment), strict=True):
            value = values[-1]
            if np.isnan(value):
                what = (metric.denominator or metric.counts or "figure").replace("_", " ")
                return f"no {what} in arm {arm!r}" if metric.counts else f"{what} is 0 in arm {arm!r}: no ratio"
            if value <= 0:
                return f"{value:.4g} in arm {arm!r}: a relative interval needs figures above 0"
        for arm, users in zip(self.arms, self.users, strict=True):
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
    ratios = {name: metric for name, metric in metrics.items() if metric.is_ratio}
    sets = {name: metric for name, metric in metrics.items() if not metric.is_ratio and item_counts is not None}
    columns = sorted({name for metric in ratios.values() for name in _columns(metric) if name})
    _check(arms, planned_days)
    _has_columns(user_days, "user_days", ["arm", "day", "user_id", *(["bucket"] if sets else []), *columns])
    rows = [user_days.filter(pc.equal(user_days["arm"], arm)) for arm in arms]
    days, left_out = _days_of_both(rows, arms)
    if not len(days):
        contrasts = {name: _nothing() for name in metrics if name in ratios or name in sets}
        found = {name: intervals(contrast, np.ones(1)) for name, contrast in contrasts.items()}
        users = tuple(pc.count_distinct(arm["user_id"]).as_py() for arm in rows)
        return ArmContrasts(
            arms, days, (users[0], users[1]), contrasts, found, frozenset(), frozenset(), ({}, {}), left_out
        )

    if before is not None:
        _has_columns(before, "before", ["user_id"])
    control, treatment = looks(rows, days, columns, before, winsorized(ratios.values()))
    contrasts, cuped, refused = {}, set(), set()
    for name, metric in ratios.items():
        numerator, denominator = _columns(metric)
        contrasts[name], slope, left = ratio_contrast(
            control.aggregates, treatment.aggregates, (numerator, denominator), past_of(metric, before)
        )
        if metric.denominator is None:
            contrasts[name] = contrasts[name].over(np.arange(1.0, len(days) + 1))
        if slope[-1]:
            cuped.add(name)
        if left[-1]:
            refused.add(name)
    if sets and item_counts is not None:
        _has_columns(item_counts, "item_counts", ITEM_COUNTS.names)
        counts = [item_counts.filter(pc.equal(item_counts["arm"], arm)) for arm in arms]
        contrasts |= set_contrasts((rows[0], rows[1]), (counts[0], counts[1]), days, sets)
    contrasts = {name: contrasts[name] for name in metrics if name in contrasts}

    so_far = control.user_days + treatment.user_days
    progress = so_far / (planned_days * so_far[0])
    found = {name: intervals(contrast, progress) for name, contrast in contrasts.items()}
    users = (int(control.users[-1]), int(treatment.users[-1]))
    extremes = (control.extremes, treatment.extremes)
    return ArmContrasts(arms, days, users, contrasts, found, frozenset(cuped), frozenset(refused), extremes, left_out)


def winsorized(metrics: Iterable[Metric]) -> set[str]:
    """The columns of which users' largest totals do not count in full."""
    return {metric.numerator for metric in metrics if metric.winsorized and metric.numerator}


def _columns(metric: Metric) -> tuple[str, str | None]:
    return metric.numerator or "", metric.denominator


def past_of(metric: Metric, before: pa.Table | None) -> tuple[str, str | None] | None:
    """Names of the metric's own columns in the pre-period, None when the pre-period has not all of them."""
    numerator, denominator = _columns(metric)
    if before is None or not {numerator, denominator or numerator} <= set(before.column_names):
        return None
    return BEFORE + numerator, BEFORE + denominator if denominator else None


def _check(arms: tuple[str, str], planned_days: int) -> None:
    if arms[0] == arms[1]:
        raise UserError(f"control and treatment are both {arms[0]!r}: name two arms.")
    if planned_days < 1:
        raise UserError(f"an experiment is planned for at least one day, found {planned_days}.")


def _has_columns(table: pa.Table, name: str, columns: list[str]) -> None:
    if missing := [column for column in columns if column not in table.column_names]:
        raise UserError(f"{name} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}.")


def _days_of_both(rows: list[pa.Table], arms: tuple[str, str]) -> tuple[pa.Array, str]:
    """Days on which both arms have rows, ascending; and, in words, those on which only one has."""
    days = [pc.unique(arm["day"]) for arm in rows]
    both = days[0].filter(pc.is_in(days[0], value_set=days[1]))
    told = []
    for arm, other, its, others in zip(arms, reversed(arms), days, reversed(days), strict=True):
        alone = its.filter(pc.invert(pc.is_in(its, value_set=others)))
        if len(alone) and len(others):
            told.append(f"{len(alone)} day(s) from {pc.min(alone)} on left out: only {arm!r} has users, {other!r} none")
    return both.take(pc.array_sort_indices(both)), "; ".join(told)


def _nothing() -> Contrast:
    nothing = np.full(1, np.nan)
    return Contrast(nothing, nothing, (nothing, nothing), (nothing, nothing))
