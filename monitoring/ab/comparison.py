"""A comparison of two arms, put together from a place: effects, sample ratio, segments, findings and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from monitoring.ab.segments import Segment, SegmentEffect, compare_segments, segments
from monitoring.ab.verdict import Log, Verdict, judge
from mtmh.experiment.arms import shares
from mtmh.experiment.place import Experiment, Place
from mtmh.experiment.statistics import Effect, SampleRatio, effects, effects_by_day, sample_ratio

PRE_PERIOD_DAYS = 28  # of the history, for CUPED


@dataclass(frozen=True)
class Finding:
    """Something about the log that a reader of the page must know."""

    title: str
    count: int
    done: str  # what became of these rows
    example: str


@dataclass(frozen=True)
class Tables:
    """What a comparison is made of."""

    user_days: pa.Table  # USER_DAYS of mtmh/experiment/units.py
    item_counts: pa.Table  # ITEM_COUNTS
    items: pa.Table
    history: pa.Table
    findings: Sequence[Finding]
    log: Log


@dataclass(frozen=True)
class Comparison:
    """What the page, ab.json and verdict.json are written from."""

    place: Place
    days: tuple[date, ...]
    effects: Sequence[Effect]
    by_day: pa.Table
    sample_ratio: SampleRatio
    log: Log
    verdict: Verdict
    segments: Sequence[SegmentEffect]
    too_small: Sequence[Segment]
    findings: Sequence[Finding]

    @property
    def experiment(self) -> Experiment:
        """What was to be done."""
        return self.place.experiment


def compare(place: Place, tables: Tables) -> Comparison:
    """Compare the place's treatment with its control. Raises UserError as `effects` does."""
    experiment = place.experiment
    control, treatment = experiment.control, experiment.treatment
    before = pre_period(tables.history, experiment.first_day)
    both = (control, treatment)
    found = effects(tables.user_days, tables.item_counts, *both, before=before, planned_days=experiment.days)
    by_day = effects_by_day(tables.user_days, tables.item_counts, *both, before=before, planned_days=experiment.days)
    ratio = sample_ratio(
        tables.log.users, {arm: share for arm, share in shares(experiment.arms).items() if arm in both}
    )
    own = tables.user_days.filter(pc.is_in(tables.user_days["arm"], pa.array(both)))
    users = pc.unique(own["user_id"])
    grouped = segments(users, tables.history, tables.items, experiment.first_day)
    compared, too_small = compare_segments(own, grouped, control, treatment, experiment.days)
    verdict = judge(found, ratio, tables.log, control, treatment)
    days = tuple(sorted(pc.unique(own["day"]).to_pylist()))
    return Comparison(
        place, days, found, by_day, ratio, tables.log, verdict, compared, too_small, tuple(tables.findings)
    )


def pre_period(history: pa.Table, first_day: date) -> pa.Table:
    """What users did in the days before the experiment, by columns of user_days: engagements, active days, seconds.

    `seconds` is there where the history has dwell_seconds.
    """
    end = datetime.combine(first_day, time(), UTC)
    bounds = [pa.scalar(at, pa.timestamp("us", tz="UTC")) for at in (end - timedelta(days=PRE_PERIOD_DAYS), end)]
    time_ = history["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    inside = pc.and_(pc.greater_equal(time_, bounds[0]), pc.less(time_, bounds[1]))
    rows = history.append_column("day", time_.cast(pa.date32())).filter(inside)
    positive = rows.filter(pc.greater(rows["value"], 0.0)) if "value" in rows.column_names else rows
    sums = positive.group_by("user_id").aggregate([([], "count_all"), ("day", "count_distinct")])
    found = sums.rename_columns({"count_all": "engagements", "day_count_distinct": "active"})
    if "dwell_seconds" in rows.column_names:
        seconds = rows.group_by("user_id").aggregate([("dwell_seconds", "sum")])
        seconds = seconds.rename_columns({"dwell_seconds_sum": "seconds"})
        found = found.join(seconds, "user_id", join_type="full outer")
    return found
