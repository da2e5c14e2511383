"""The online metrics (paper section 7): what each one means, and its figure an arm and day.

Two kinds. A *ratio* is the sum of one column of `user_days` over the sum of another (or, where
`denominator` is None, over the number of users: who was seen in the arm counts from then on, with
zeros where nothing happened). A *set* metric is a function of how often each item, or each topic,
was shown or viewed: it is no sum over users, so arms of unequal size do not compare (effects are
taken between arms of equal size, mtmh/experiment/statistics).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pyarrow as pa

from mtmh.experiment.data import ExperimentData
from mtmh.experiment.definitions import DEFINITIONS as D
from mtmh.experiment.definitions import coverage, distinct, entropy, gini
from mtmh.experiment.units import DIGITS, SUMS, counts, unordered_user_days

OfCounts = Callable[[np.ndarray, int], float]


@dataclass(frozen=True)
class Metric:
    """One metric. `definition` is what a page shows beside it."""

    name: str
    title: str
    definition: str
    unit: str
    higher: Literal["better", "worse", "neutral"]
    numerator: str | None = None  # column of user_days
    denominator: str | None = (
        None  # column of user_days; None: the users of the arm, each on every day
    )
    over: Literal["item", "topic"] | None = (
        None  # of a set metric: the rows of item_counts that it reads
    )
    winsorized: bool = (
        False  # whether users' totals above a percentile of both arms' count as that percentile
    )
    counts: Literal["impressions", "views"] | None = None  # and the column
    of_counts: OfCounts | None = (
        None  # (counts above 0, one an item or topic; how many there could be) -> value
    )

    @property
    def is_ratio(self) -> bool:
        """Whether it is a ratio of columns of user_days; otherwise it is a set metric."""
        return self.numerator is not None


_ALL = (
    Metric(
        "daily_active_users",
        "Daily active users",
        "Share of the arm's users who had at least one positive engagement on the day, i.e. active "
        "days per user and day; the number of them is `active_users`.",
        "share of users",
        "better",
        "active",
    ),
    Metric(
        "time_spent",
        "Time spent",
        "Seconds of dwell per user and day, over all users of the arm; of a user on a day at most "
        f"{D.longest_dwell_seconds:,.0f} s. Between arms, users' totals are winsorized at the "
        f"{100 * D.winsorized_share:g}th percentile of both arms' users who have any.",
        "s per user and day",
        "better",
        "seconds",
        winsorized=True,
    ),
    Metric(
        "distinct_item_views",
        "Distinct item views",
        "Distinct items with at least one engagement of any kind, in the arm on the day. No sum "
        "over users: compare arms of equal size.",
        "items",
        "better",
        over="item",
        counts="views",
        of_counts=distinct,
    ),
    Metric(
        "fresh_share",
        "Fresh content",
        f"Impressions of items younger than {D.fresh_hours} h / impressions.",
        "share of impressions",
        "better",
        "fresh_impressions",
        "impressions",
    ),
    Metric(
        "novel_interests",
        "Novel interest discovery",
        f"L2 topics in which the user has at least {D.novel_engagements} positive engagement on "
        f"the day and none in the {D.novel_days} days before it; mean per active user.",
        "topics per active user",
        "better",
        "novel_interests",
        "active",
    ),
    Metric(
        "interest_recall",
        "User interest recall",
        f"Share of the user's top {D.interests} L2 topics, by positive engagements before the log "
        "begins, that the day's impressions had; mean over the users who have such topics and got "
        "impressions.",
        "share of topics",
        "better",
        "recalled_interests",
        "interested",
    ),
    Metric(
        "engagement_rate",
        "Engagement rate",
        "Impressions with at least one positive engagement / impressions.",
        "share of impressions",
        "better",
        "engaged_impressions",
        "impressions",
    ),
    Metric(
        "relevance_share",
        "Relevance head, impressions",
        "Impressions that come from the relevance head / impressions.",
        "share of impressions",
        "neutral",
        "relevance_impressions",
        "impressions",
    ),
    Metric(
        "relevance_engagement_share",
        "Relevance head, engagements",
        "Positive engagements with what the relevance head retrieved / positive engagements that "
        "go back to an impression.",
        "share of engagements",
        "neutral",
        "relevance_engagements",
        "attributed_engagements",
    ),
    Metric(
        "topic_match",
        "Topic match",
        "Impressions that share an L2 topic with their trigger / impressions where both have "
        "topics.",
        "share of impressions",
        "better",
        "matched_impressions",
        "judged_impressions",
    ),
    Metric(
        "diversity",
        "Intra-list diversity",
        "Mean cosine distance between the L2 topic vectors of two items of a list, mean over the "
        "lists with at least two items that have topics.",
        "0..1",
        "neutral",
        "diversity",
        "diverse_lists",
    ),
    Metric(
        "topic_entropy",
        "Topic entropy",
        "Entropy of the impressions over L2 topics, in the arm on the day; an item counts for its "
        "topics in equal parts.",
        "bits",
        "neutral",
        over="topic",
        counts="impressions",
        of_counts=entropy,
    ),
    Metric(
        "catalog_coverage",
        "Catalog coverage",
        "Distinct items shown in the arm on the day / items that there are by its end.",
        "share of items",
        "better",
        over="item",
        counts="impressions",
        of_counts=coverage,
    ),
    Metric(
        "gini",
        "Gini of impressions",
        "Gini coefficient of the impressions over all items that there are by the end of the day: "
        "0 when all are shown alike, towards 1 when few get everything.",
        "0..1",
        "worse",
        over="item",
        counts="impressions",
        of_counts=gini,
    ),
    Metric(
        "cold_share",
        "Cold items",
        "Impressions of items that nobody, in any arm, had engaged with before the day / "
        "impressions.",
        "share of impressions",
        "neutral",
        "cold_impressions",
        "impressions",
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
DAILY = pa.schema(
    [
        ("arm", pa.string()),
        ("day", pa.date32()),
        ("users", pa.int64()),
        ("active_users", pa.int64()),
        *((name, pa.float64()) for name in METRICS),
    ]
)


def daily(data: ExperimentData) -> pa.Table:
    """Every metric, an arm and day: arm, day, users, active_users, and a float column a metric.

    users: of the arm, seen by the end of that day. A metric is null where it has no meaning (such
    as a share of no impressions). There is a row for each day and each arm that has users by then,
    whatever happened on it. A day's row is the same whatever comes after it; rows that come late,
    filed under a day, change that day and the users of the days after it.
    """
    table = unordered_user_days(data)
    sums = table.group_by("arm", "day").agg(
        **{field.name: table[field.name].sum() for field in SUMS}
    )
    by_day = {(row["arm"], row["day"]): row for row in sums.to_pyarrow().to_pylist()}
    sets = _set_metrics(data)
    # A row a day for every arm that has users by then, also where nothing happened.
    users = data.users.by_day(len(data.experiment.arms), data.days).tolist()
    rows = []
    for number, arm in enumerate(data.experiment.arms):
        for day, count in zip(data.days, users[number], strict=True):
            if not count:
                continue
            totals = by_day.get((arm.name, day), {})
            row = {"arm": arm.name, "day": day, "users": count}
            row["active_users"] = totals.get("active", 0)
            for name, metric in METRICS.items():
                value = sets.get((number, day), {}).get(name)
                if metric.is_ratio:
                    below = totals.get(metric.denominator, 0) if metric.denominator else count
                    value = totals.get(str(metric.numerator), 0) / below if below else None
                # Without the last digits, which depend on the order in which an engine adds.
                row[name] = None
                if value is not None and not math.isnan(value):
                    row[name] = round(value, DIGITS)
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=DAILY)


def _set_metrics(data: ExperimentData) -> dict[tuple[int, date], dict[str, float]]:
    """Number of the arm, day -> name -> value."""
    sizes = dict(zip(data.days, data.catalog.sizes(data.days).tolist(), strict=True))
    values: dict[tuple[int, date], dict[str, float]] = {}
    for over, table in zip(("item", "topic"), counts(data, ("arm", "day")), strict=True):
        rows = table.to_pyarrow().sort_by([("arm", "ascending"), ("day", "ascending")])
        groups = rows.group_by(["arm", "day"], use_threads=False)
        sizes_of_groups = groups.aggregate([([], "count_all")]).to_pylist()
        # Sorted by group: each is one slice.
        start = 0
        for group in sizes_of_groups:
            part = rows.slice(start, group["count_all"])
            start += group["count_all"]
            figures = values.setdefault((group["arm"], group["day"]), {})
            size = sizes[group["day"]] if over == "item" else len(data.catalog.topic_names)
            for name, metric in METRICS.items():
                if metric.over == over and metric.counts and metric.of_counts:
                    column = part[metric.counts].to_numpy()
                    figures[name] = metric.of_counts(column[column > 0], size)
    return values
