"""Invented users with known truth, for benchmarks and tests of the statistics: user days and item
counts of two arms.

Users differ from each other (visits, engagement and tastes are long-tailed), keep to their ways
from day to day, and their past tells of it: what statistics of an experiment find hard. In an A/A
population the arms differ in nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.units import ITEM_COUNTS, USER_DAYS

FIRST_DAY = np.datetime64("2025-03-01")
ARMS = ("control", "treatment")


@dataclass(frozen=True)
class SampledUsers:
    """Tables as in mtmh/experiment/units.py; `before`: 28 days of the same users, seconds and
    active days."""

    user_days: pa.Table
    before: pa.Table


def population(
    rng: np.random.Generator,
    users: int,
    days: int,
    lift: float = 0.0,
    share: float = 0.5,
    outliers: float = 0.0,
) -> SampledUsers:
    """`users` who visit over `days`; each is in the treatment with probability `share`.

    lift: by how much every ratio metric of the treatment is truly above the control's. outliers:
    the share of users whose every visit lasts as long as a record may say (a tab left open, a
    program); with any, the others' dwell times have a heavy tail too, and the lift of time spent is
    that of what is counted, which is less.
    """
    # Each user's ways: how often they come, what they like, how long they stay.
    treated = rng.random(users) < share
    visits, taste = rng.beta(0.8, 1.6, users), rng.lognormal(0.0, 0.7, users)
    dwell = rng.lognormal(3.5, 1.2 if outliers else 0.5, users)
    day, user = np.nonzero(rng.random((days, users)) < visits)
    engagement = np.minimum(0.15 * taste, 0.9)
    columns = _days_of_users(rng, user, taste, dwell, engagement)
    # The lift is planted by taking from the control, which keeps the counts whole numbers.
    for name, values in _raised(rng, columns, lift).items():
        columns[name] = np.where(treated[user], columns[name], values)
    if outliers:
        # Rows of those who are stuck last the most that counts; the others get a Pareto tail.
        stuck = rng.random(users) < outliers
        longest = DEFINITIONS.longest_dwell_seconds
        pareto = np.minimum(columns["seconds"] * (1 + rng.pareto(1.5, len(user))), longest)
        columns["seconds"] = np.where(stuck[user] & (columns["active"] > 0), longest, pareto)
    names = pc.binary_join_element_wise("user", pa.array(np.arange(users)).cast(pa.string()), "-")
    table = {
        "arm": pa.array(ARMS).take(pa.array(treated[user].astype(np.int8))),
        "day": pa.array(FIRST_DAY + day, pa.date32()),
        "user_id": names.take(pa.array(user)),
        "bucket": pa.array(user % 100, pa.int32()),
        **columns,
    }
    # Their past tells of them, as the same visits and tastes make it.
    active_before = rng.binomial(28, visits)
    seconds_before = rng.poisson(active_before * 12 * engagement * (1 + taste)) * dwell
    before = {"user_id": names, "active": active_before, "seconds": seconds_before}
    return SampledUsers(pa.table({name: table[name] for name in USER_DAYS.names}), pa.table(before))


def item_counts(
    rng: np.random.Generator, user_days: pa.Table, items: int, flatness: tuple[float, float]
) -> pa.Table:
    """What the users of `user_days` were shown and viewed, of `items` items in 20 topics, as item
    counts.

    flatness: 0..1 of the control and the treatment: the share of impressions drawn from all items
    alike; the others go to few popular ones (Zipf), so with more of it there is more coverage and
    entropy, and less Gini.
    """
    impressions = user_days["impressions"].to_numpy()
    row = np.repeat(np.arange(len(impressions)), impressions)
    treated = (
        pc.equal(user_days["arm"], ARMS[1]).to_numpy(zero_copy_only=False).astype(np.int64)[row]
    )
    # Popular items by Zipf's law, and a share drawn from all alike.
    popular = 1 / np.arange(1, items + 1)
    item = rng.choice(items, len(row), p=popular / popular.sum())
    item = np.where(
        rng.random(len(row)) < np.asarray(flatness)[treated], rng.integers(0, items, len(row)), item
    )
    viewed = rng.random(len(row)) < 0.2
    day = user_days["day"].cast(pa.int32()).to_numpy()[row] - FIRST_DAY.astype(np.int32)
    bucket = user_days["bucket"].to_numpy()[row]
    tables = [
        _counted(treated, day, bucket, key, viewed, over, size)
        for over, key, size in (("item", item, items), ("topic", item % 20, 20))
    ]
    return pa.concat_tables(tables)


def _counted(
    treated: np.ndarray,
    day: np.ndarray,
    bucket: np.ndarray,
    key: np.ndarray,
    viewed: np.ndarray,
    over: str,
    size: int,
) -> pa.Table:
    # One number for day, arm, bucket (of 100) and key, so that a single bincount does it all.
    cell = ((day * 2 + treated) * 100 + bucket).astype(np.int64) * size + key
    impressions = np.bincount(cell)
    # Cells without an impression are no rows, as in a real log.
    filled = np.flatnonzero(impressions)
    bucket_at = filled // size
    return pa.table(
        {
            "arm": pa.array(ARMS).take(pa.array(bucket_at // 100 % 2)),
            "day": pa.array(FIRST_DAY + bucket_at // 200, pa.date32()),
            "bucket": pa.array(bucket_at % 100, pa.int32()),
            "over": pa.repeat(over, len(filled)),
            "key": pc.binary_join_element_wise(
                over, pa.array(filled % size).cast(pa.string()), "-"
            ),
            "impressions": impressions[filled].astype(np.float64),
            "views": np.bincount(cell[viewed], minlength=len(impressions))[filled].astype(
                np.float64
            ),
            "size": np.full(len(filled), size),
        },
        schema=ITEM_COUNTS,
    )


def _days_of_users(
    rng: np.random.Generator,
    user: np.ndarray,
    taste: np.ndarray,
    dwell: np.ndarray,
    engagement: np.ndarray,
) -> dict[str, np.ndarray]:
    """What was shown to `user` on a day and what came of it, [rows] each; the rest is by user."""
    rows, users = len(user), len(taste)
    # The more a user likes, the more lists they look at; each has ten items.
    lists = 1 + rng.poisson(taste[user])
    impressions = 10 * lists
    engaged = rng.binomial(impressions, engagement[user])
    attributed = rng.binomial(impressions, 0.1)
    judged = rng.binomial(impressions, 0.9)
    # Shares with [user] are drawn once a user: people keep to their ways from day to day.
    return {
        "impressions": impressions,
        "fresh_impressions": rng.binomial(impressions, rng.beta(2, 8, users)[user]),
        "cold_impressions": rng.binomial(impressions, 0.03),
        "relevance_impressions": rng.binomial(impressions, 0.4),
        "judged_impressions": judged,
        "matched_impressions": rng.binomial(judged, rng.beta(5, 5, users)[user]),
        "engaged_impressions": engaged,
        "lists": lists,
        "diversity": lists * rng.beta(6, 4, rows),
        "diverse_lists": lists,
        "engagements": engaged,
        "attributed_engagements": attributed,
        "relevance_engagements": rng.binomial(attributed, rng.beta(4, 6, users)[user]),
        "seconds": engaged * dwell[user] * rng.exponential(1.0, rows),
        "active": (engaged > 0).astype(np.int64),
        "novel_interests": rng.poisson(0.4, rows),
        "recalled_interests": rng.binomial(5, 0.5, rows) / 5,
        "interested": np.ones(rows, np.int64),
    }


def _raised(
    rng: np.random.Generator, columns: Mapping[str, np.ndarray], lift: float
) -> dict[str, np.ndarray]:
    """The control's numerators: thinned, so that each metric's expectation is 1 / (1 + lift) of
    what it was."""
    keep, thinned = 1 / (1 + lift), {}
    for metric in METRICS.values():
        if metric.numerator is None:
            continue
        values = columns[metric.numerator]
        # whose denominator is itself thinned
        much = keep * keep if metric.denominator == "active" else keep
        whole = np.issubdtype(values.dtype, np.integer)
        thinned[metric.numerator] = rng.binomial(values, much) if whole else values * much
    return thinned
