"""The figures that the log gives by itself: online metrics, freshness, heads, volume, and lifts.

The lifts of treatment against control are the A/B page's numbers.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.evidently.figures import table
from mtmh.experiment.arm_effects import check_arms, compare_arms
from mtmh.experiment.data import ExperimentData
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS, daily
from mtmh.experiment.relations import identified, once
from mtmh.experiment.units import user_days
from mtmh.exposures.read import LogRelations

HOUR = 3600.0  # seconds
ENDS = ("lift", "always_lo", "always_hi")
RATIOS = {name: metric for name, metric in METRICS.items() if metric.is_ratio}


def online(data: ExperimentData) -> Iterator[pa.Table]:
    """Every metric of every arm and day, as `daily` has them, and the counts of users."""
    names = ("users", "active_users", *METRICS)
    for row in daily(data).to_pylist():
        yield table(row["day"], "online", row["arm"], {name: row[name] for name in names})


def freshness(data: ExperimentData) -> Iterator[pa.Table]:
    """How old what an arm showed was at that moment, and how much of what is new was shown at all.

    median_age_hours; newest_age_hours: of the youngest item shown; fresh_coverage: share of the
    items created in the 48 hours before the day's end that were shown on the day.
    """
    items = data.catalog.numbered().select("item", "created")
    times = data.lists.select("list", "timestamp")
    rows = _of_arms(data, data.impressions).inner_join(times, "list").inner_join(items, "item")
    age = (rows.timestamp.epoch_seconds() - rows.created.epoch_seconds()) / HOUR
    # Conditions on both sides of a join stand in columns, not in filters: DuckDB would join by
    # inequality, slowly.
    age = ibis.ifelse(age >= 0, age, ibis.null("float64"))
    by_day = rows.mutate(age=age).group_by("arm", "day")
    by_day = by_day.agg(median=ibis._.age.median(), newest=ibis._.age.min())
    # Of the fresh items that were created by the day's end, how many were shown.
    distinct = _of_arms(data, data.impressions).select("arm", "day", "item").distinct()
    distinct = distinct.inner_join(items, "item")
    end = distinct.day.cast("timestamp('UTC')") + ibis.interval(days=1)
    is_recent = distinct.created >= end - ibis.interval(hours=DEFINITIONS.fresh_hours)
    counts = distinct.mutate(recent=is_recent & (distinct.created < end)).group_by("arm", "day")
    counts = counts.agg(n=ibis._.recent.sum())
    fresh_shown = {(row["arm"], row["day"]): row["n"] or 0 for row in _rows(counts)}
    created = data.catalog.created
    created_on = {}
    for day in data.days:
        day_end = np.datetime64(day + timedelta(days=1), "us")
        begin = day_end - np.timedelta64(DEFINITIONS.fresh_hours, "h")
        created_on[day] = int(((created >= begin) & (created < day_end)).sum())
    for row in _rows(by_day):
        arm, day = row["arm"], row["day"]
        values = {"median_age_hours": row["median"], "newest_age_hours": row["newest"]}
        if created_on[day]:
            values["fresh_coverage"] = fresh_shown.get((arm, day), 0) / created_on[day]
        yield table(day, "freshness", arm, values)


def heads(data: ExperimentData, exposures: ir.Table) -> Iterator[pa.Table]:
    """Of each arm and channel: impressions, engagement_rate and topic_match (as the metrics),
    mean_score.
    """
    matched = data.matched.mutate(match=True)
    rows = _of_arms(data, data.impressions).left_join(matched, ["item", "trigger"])
    rows = rows.select("arm", "day", "channel", "judged", match=ibis._.match.fill_null(False))
    keys = ("arm", "day", "channel")
    impressions = rows.group_by(*keys).agg(
        impressions=ibis._.count(),
        judged=ibis._.judged.sum(),
        matched=(ibis._.judged & ibis._.match).sum(),
    )
    # An impression is engaged with once, whatever was done with it.
    positive = data.events.filter(data.events["value"] > 0, data.events["list"].notnull())
    engaged = _of_arms(data, positive).select(*keys, "list", "item").distinct()
    engaged = engaged.group_by(*keys).agg(engaged=ibis._.count())
    scores = _rows(exposures.group_by("arm", "day", "head").agg(score=exposures.score.mean()))
    score = {(row["arm"], row["day"], row["head"]): row["score"] for row in scores}
    for row in _rows(impressions.left_join(engaged, keys).select(*impressions.columns, "engaged")):
        arm, day, channel = row["arm"], row["day"], row["channel"]
        values = {
            "impressions": row["impressions"],
            "engagement_rate": (row["engaged"] or 0) / row["impressions"],
            "topic_match": row["matched"] / row["judged"] if row["judged"] else None,
            "mean_score": score.get((arm, day, channel)),
        }
        yield table(day, "heads", f"{arm}, {channel}", values)


def quality(data: ExperimentData, log: LogRelations) -> Iterator[pa.Table]:
    """Of each day: answers and impressions logged, share of degraded answers, engagements."""
    exposures = identified(log.exposures)
    exposures = exposures.filter(exposures.day.between(data.first, data.last))
    # First by answer, then by day: an answer is degraded as a whole.
    answers = exposures.group_by("day", "exposure_id")
    answers = answers.agg(n=ibis._.count(), degraded=ibis._.degraded.max()).group_by("day")
    answers = answers.agg(
        answers=ibis._.count(), impressions=ibis._.n.sum(), degraded=ibis._.degraded.mean()
    )
    engagements = logged_engagements(data, log)
    events = _rows(engagements.group_by("day").agg(n=ibis._.count()))
    events_of_day = {row["day"]: row["n"] for row in events}
    answers_of_day = {row["day"]: row for row in _rows(answers)}
    for day in data.days:
        row = answers_of_day.get(day, {"answers": 0, "impressions": 0, "degraded": None})
        values = {
            "answers": row["answers"],
            "impressions": row["impressions"],
            "engagements": events_of_day.get(day, 0),
            "degraded_share": row["degraded"],
        }
        yield table(day, "quality", "log", values)


def lifts(data: ExperimentData, history: Path, first: date) -> Iterator[pa.Table]:
    """Families `lift` (of: lift, always_lo, always_hi; label: a ratio metric) and `sample ratio`,
    from day `first` on.

    `data` begin with the experiment: a lift is of all days up to its own. The metrics over sets of
    items are left to the A/B report (mtmh ab), whose jackknife takes longer.
    """
    rows = user_days(data).to_pyarrow()
    _, by_day = compare_arms(data.experiment, history, rows, None, RATIOS)
    for day in data.days:
        if day < first:
            continue
        of_day = by_day.filter(pc.equal(by_day["day"], pa.scalar(day)))
        for end in ENDS:
            values = dict(zip(of_day["metric"].to_pylist(), of_day[end].to_pylist(), strict=True))
            yield table(day, "lift", end, values)
        so_far = rows.filter(pc.less_equal(rows["day"], pa.scalar(day)))
        ratio, unserved = check_arms(data.experiment, so_far)
        yield table(day, "sample ratio", "served", {"p": ratio.p})
        yield table(day, "sample ratio", "never served", {"p": unserved.p})


def logged_by_arms(data: ExperimentData, log: LogRelations) -> ir.Table:
    """The exposures of these days and of the experiment's arms, as they were logged: scores and
    heads.
    """
    arms = [arm.name for arm in data.experiment.arms]
    exposures = identified(log.exposures)
    return exposures.filter(exposures.day.between(data.first, data.last), exposures.arm.isin(arms))


def logged_engagements(data: ExperimentData, log: LogRelations) -> ir.Table:
    """Everybody's engagements of these days, each once."""
    engagements = once(log.engagements)
    return engagements.filter(engagements.day.between(data.first, data.last))


def _of_arms(data: ExperimentData, rows: ir.Table) -> ir.Table:
    """`rows` with the name of the user's arm."""
    return rows.inner_join(data.named_users.select("user", "arm"), "user")


def _rows(rows: ir.Table) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], rows.to_pyarrow().to_pylist())
