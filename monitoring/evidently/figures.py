"""A figure: one number of one day, with a name. All that the monitor knows of a day is a table of
them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS

# `family` says what is measured, `of` on what (an arm, a head, the log), `label` which figure of
# the family it is.
FIGURES = pa.schema(
    [
        ("day", pa.date32()),
        ("family", pa.string()),
        ("of", pa.string()),
        ("label", pa.string()),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Family:
    """What a page says about a family of figures."""

    title: str
    definition: str


FAMILIES = {
    "online": Family(
        "Online metrics", "Daily figures of an arm, as mtmh/experiment/metrics.py defines them."
    ),
    "lift": Family(
        "Treatment against control",
        "Relative lift over all days up to this one, with the ends of the interval that is valid "
        "at every look.",
    ),
    "sample ratio": Family(
        "Sample ratio",
        "p of the users by arm who were served, given the arms' shares, and of those who engaged "
        "and were never served; below 0.001 is an alarm.",
    ),
    "freshness": Family(
        "Freshness", "How new what an arm shows is, and how much of what is new it shows."
    ),
    "heads": Family("Heads", "Impressions that come from one channel, in one arm."),
    "drift": Family(
        "Drift of scores and features",
        "Distance between the day's impressions and the same arm's lists when the version was "
        "evaluated: Wasserstein distance in standard deviations of those, Jensen-Shannon distance "
        "for topics.",
    ),
    "embeddings": Family(
        "Drift of embeddings",
        "Squared distance between two mean vectors in the head's space, less what chance adds: 0 "
        "for one distribution. Shown: from the arm's evaluated lists. Engaged: from what users "
        "engaged with in training.",
    ),
    "topics": Family(
        "Drift of embeddings by topic",
        "Squared distance between the mean vectors, in the head's space, of what users engage with "
        "and of what they engaged with in training, within an L1 topic, less what chance adds.",
    ),
    "quality": Family("Volume of the log", "What was logged on the day, as it stands there."),
    "findings": Family(
        "Findings", "What is wrong in the log of all days up to this one, counted; 0 is sound."
    ),
    "bounds": Family(
        "Broken bounds", "Figures of the day outside of their bounds (bounds.yaml), by family."
    ),
}
# Those of the online metrics are in mtmh.experiment.metrics.
LABELS = {
    "users": ("Users", "Users of the arm, seen by the end of the day."),
    "active_users": (
        "Active users",
        "Users of the arm with at least one positive engagement on the day.",
    ),
    "p": ("p", ""),
    "median_age_hours": (
        "Median age, hours",
        "Age of the items shown, at the moment of the impression.",
    ),
    "newest_age_hours": (
        "Age of the newest, hours",
        "Least age of an item at the moment of an impression.",
    ),
    "fresh_coverage": (
        "Coverage of new items",
        f"Share of the items created in the {DEFINITIONS.fresh_hours} h before the day's end that "
        "the arm showed.",
    ),
    "added_share": (
        "Added since training",
        "Share of the impressions whose items the version was not trained with: they came in by a "
        "refresh.",
    ),
    "impressions": ("Impressions", ""),
    "mean_score": ("Mean score", "As the router logs it."),
    "log_popularity": ("Popularity (log)", "As the model reads it, computed for the day."),
    "log_recent_popularity": (
        "Recent popularity (log)",
        "As the model reads it, computed for the day.",
    ),
    "log_age_days": ("Age in days (log)", "As the model reads it, computed for the day."),
    "l1_topic": ("L1 topics", "The first L1 topic of the items shown."),
    "answers": ("Answers", "Requests that were answered with at least one candidate."),
    "engagements": ("Engagements", "Of any kind."),
    "degraded_share": (
        "Degraded answers",
        "Share of the answers in which something did not answer in time.",
    ),
}


def title_of(label: str) -> str:
    """The name of a figure, for people."""
    if label in METRICS:
        return METRICS[label].title
    if label.startswith("score_"):  # drift.columns
        return f"Scores, {label.removeprefix('score_')} head"
    return LABELS[label][0] if label in LABELS else label.replace("_", " ")


def definition_of(label: str) -> str:
    """What a figure is; empty where its family says it all."""
    if label in METRICS:
        return f"{METRICS[label].definition} Unit: {METRICS[label].unit}."
    return LABELS[label][1] if label in LABELS else ""


def table(day: date, family: str, of: str, values: Mapping[str, float | None]) -> pa.Table:
    """The figures `values` of one day, without None and NaN: there is nothing to plot or test."""
    finite = {
        label: float(value)
        for label, value in values.items()
        if value is not None and np.isfinite(value)
    }
    n = len(finite)
    columns = [[day] * n, [family] * n, [of] * n, list(finite), list(finite.values())]
    return pa.table(columns, schema=FIGURES)


def tables(parts: Iterable[pa.Table]) -> pa.Table:
    """All parts in one table."""
    return pa.concat_tables([FIGURES.empty_table(), *parts])
