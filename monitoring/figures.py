"""A figure: one number of one day, with a name. All that the monitor knows of a day is a table of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

# `family` says what is measured, `of` on what (an arm, a head, the log), `label` which figure of the family it is.
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
    "online": Family("Online metrics", "Daily figures of an arm, as mtmh/experiment/metrics.py defines them."),
    "lift": Family(
        "Treatment against control",
        "Relative lift from the first day to this one, with the interval that is valid at every look.",
    ),
    "freshness": Family(
        "Freshness of what is shown", "Age at the moment of the impression, in hours; shares of items."
    ),
    "heads": Family("Heads", "Impressions of one head in one arm."),
    "drift": Family(
        "Drift of scores and features",
        "Distance between the day's impressions and what the same arm's lists held when the version was evaluated: "
        "Wasserstein distance in standard deviations, Jensen-Shannon distance for topics.",
    ),
    "embeddings": Family(
        "Drift of embeddings",
        "Squared distance between the mean vectors, without the part that chance adds: 0 for the same distribution. "
        "Shown: against the evaluated lists; engaged: against what users engaged with in training.",
    ),
    "topics": Family(
        "Drift of embeddings by topic",
        "The same, of what users engage with, within one L1 topic.",
    ),
    "quality": Family("Volume of the log", "Rows of the day, as they were logged."),
    "findings": Family(
        "Findings about the log", "What was wrong with its rows, counted (mtmh/experiment/findings.py); 0 is sound."
    ),
    "sample ratio": Family("Sample ratio", "p of the users by arm, given the arms' shares; below 0.001 is an alarm."),
    "bounds": Family("Broken bounds", "Figures of the day outside of their bounds (bounds.yaml), by family."),
}


def table(day: date, family: str, of: str, values: Mapping[str, float | None]) -> pa.Table:
    """The figures `values` of one day; those that are None or NaN are left out: there is nothing to plot or test."""
    kept = {label: float(value) for label, value in values.items() if value is not None and np.isfinite(value)}
    columns = [[day] * len(kept), [family] * len(kept), [of] * len(kept), list(kept), list(kept.values())]
    return pa.table(columns, schema=FIGURES)


def tables(parts: Iterable[pa.Table]) -> pa.Table:
    """All of them in one."""
    return pa.concat_tables([FIGURES.empty_table(), *parts])
