"""The figures that a day's log gives by itself: online metrics, freshness, heads, how much of it there is."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from monitoring.evidently.figures import table
from mtmh.experiment.data import ExperimentData
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS, daily
from mtmh.experiment.relations import identified, once
from mtmh.exposures.read import LogRelations
from mtmh.heads import HEADS

HOUR = 3600.0


def online(data: ExperimentData) -> Iterator[pa.Table]:
    """Every metric of every arm and day, as `daily` has them, with the counts of users behind them."""
    for row in daily(data).to_pylist():
        yield table(row["day"], "online", row["arm"], {name: row[name] for name in ("users", "active_users", *METRICS)})


def freshness(data: ExperimentData) -> Iterator[pa.Table]:
    """How old what an arm showed was at that moment, and how much of what is new was shown at all.

    median_age_hours; newest_age_hours: of the youngest item shown; fresh_coverage: share of the items created in the
    48 hours before the day's end that were shown on the day.
    """
    items = data.catalog.numbered().select("item", "created")
    rows = _of_arms(data, data.shown).inner_join(data.lists.select("list", "timestamp"), "list")
    rows = rows.inner_join(items, "item")
    age = (rows.timestamp.epoch_seconds() - rows.created.epoch_seconds()) / HOUR
    # Conditions on both sides of a join stand in columns, not in filters: DuckDB would join by inequality, slowly.
    age = ibis.ifelse(age >= 0, age, ibis.null("float64"))
    by_day = rows.mutate(age=age).group_by("arm", "day").agg(median=ibis._.age.median(), newest=ibis._.age.min())
    distinct = _of_arms(data, data.shown).select("arm", "day", "item").distinct().inner_join(items, "item")
    end = distinct.day.cast("timestamp('UTC')") + ibis.interval(days=1)
    recent = (distinct.created >= end - ibis.interval(hours=DEFINITIONS.fresh_hours)) & (distinct.created < end)
    counts = distinct.mutate(recent=recent).group_by("arm", "day").agg(n=ibis._.recent.sum())
    fresh = {(row["arm"], row["day"]): row["n"] or 0 for row in _rows(counts)}
    there = {day: _created_before_end(data.catalog.created, day) for day in data.days}
    for row in _rows(by_day):
        arm, day = row["arm"], row["day"]
        covered = fresh.get((arm, day), 0) / there[day] if there[day] else None
        values = {"median_age_hours": row["median"], "newest_age_hours": row["newest"], "fresh_coverage": covered}
        yield table(day, "freshness", arm, values)


def heads(data: ExperimentData, exposures: ir.Table) -> Iterator[pa.Table]:
    """Of each arm and head: impressions, engagement_rate and topic_match (as the metrics), mean_score."""
    shown = _of_arms(data, data.shown).left_join(data.matched.mutate(match=True), ["item", "trigger"])
    shown = shown.select("arm", "day", "relevance", "judged", match=ibis._.match.fill_null(False))
    keys = ("arm", "day", "relevance")
    impressions = shown.group_by(*keys).agg(
        impressions=ibis._.count(), judged=ibis._.judged.sum(), matched=(ibis._.judged & ibis._.match).sum()
    )
    liked = data.events.filter(data.events["value"] > 0, data.events["list"].notnull())
    engaged = _of_arms(data, liked).select(*keys, "list", "item").distinct().group_by(*keys).agg(engaged=ibis._.count())
    scores = _rows(exposures.group_by("arm", "day", "head").agg(score=exposures.score.mean()))
    score = {(row["arm"], row["day"], row["head"]): row["score"] for row in scores}
    for row in _rows(impressions.left_join(engaged, keys).select(*impressions.columns, "engaged")):
        arm, day, head = row["arm"], row["day"], HEADS[int(row["relevance"])]
        values = {
            "impressions": row["impressions"],
            "engagement_rate": (row["engaged"] or 0) / row["impressions"],
            "topic_match": row["matched"] / row["judged"] if row["judged"] else None,
            "mean_score": score.get((arm, day, head)),
        }
        yield table(day, "heads", f"{arm}, {head}", values)


def quality(data: ExperimentData, log: LogRelations) -> Iterator[pa.Table]:
    """Of each day: answers and impressions logged, share of degraded answers, engagements."""
    exposures = identified(log.exposures)
    exposures = exposures.filter(exposures.day.between(data.first, data.last))
    asked = exposures.group_by("day", "exposure_id").agg(n=ibis._.count(), degraded=ibis._.degraded.max())
    asked = asked.group_by("day").agg(
        answers=ibis._.count(), impressions=ibis._.n.sum(), degraded=ibis._.degraded.mean()
    )
    engagements = once(log.engagements)
    engagements = engagements.filter(engagements.day.between(data.first, data.last))
    done = {row["day"]: row["n"] for row in _rows(engagements.group_by("day").agg(n=ibis._.count()))}
    shown = {row["day"]: row for row in _rows(asked)}
    for day in data.days:
        row = shown.get(day, {"answers": 0, "impressions": 0, "degraded": None})
        values = {"answers": row["answers"], "impressions": row["impressions"], "engagements": done.get(day, 0)}
        yield table(day, "quality", "log", values | {"degraded_share": row["degraded"]})


def logged_by_arms(data: ExperimentData, log: LogRelations) -> ir.Table:
    """The exposures of these days and of the experiment's arms, as they were logged: scores and heads."""
    arms = [arm.name for arm in data.experiment.arms]
    exposures = identified(log.exposures)
    return exposures.filter(exposures.day.between(data.first, data.last), exposures.arm.isin(arms))


def _of_arms(data: ExperimentData, rows: ir.Table) -> ir.Table:
    """`rows` with the name of the user's arm."""
    users = data.users.numbered().select("user", number="arm").inner_join(data.arms, "number")
    return rows.inner_join(users.select("user", "arm"), "user")


def _created_before_end(created: np.ndarray, day: date) -> int:
    end = np.datetime64(day + timedelta(days=1), "us")
    return int(((created >= end - np.timedelta64(DEFINITIONS.fresh_hours, "h")) & (created < end)).sum())


def _rows(table: ir.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return found
