"""Segments: made from the past alone, disjoint, counted against a plain count, and corrected
together.
"""

from collections import Counter
from datetime import timedelta
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers.watched_users import FIRST, TOPICS, history, items, user_days, user_names

from mtmh.experiment.segments import (
    HEAVY_SHARE,
    LEAST_USERS,
    METRICS_SHOWN,
    NEW_ENGAGEMENTS,
    Segment,
    compare_segments,
    segments,
)

USERS = pa.array(user_names(1200))


@pytest.fixture(scope="module")
def past() -> pa.Table:
    return history()


@pytest.fixture(scope="module")
def found(past: pa.Table) -> dict[str, Segment]:
    return {each.name: each for each in segments(USERS, past, items(), FIRST)}


def test_every_user_is_new_heavy_or_neither(found: dict[str, Segment], past: pa.Table) -> None:
    groups = [
        found[name].users.to_pylist() for name in ("new users", "heavy users", "all other users")
    ]
    assert sorted(chain.from_iterable(groups)) == USERS.to_pylist()
    counts = Counter(past["user_id"].to_pylist())
    new, heavy, rest = groups
    assert set(USERS.to_pylist()[:150]) <= set(new)
    assert all(counts[user] > NEW_ENGAGEMENTS for user in heavy + rest)
    assert min(counts[user] for user in heavy) > max(counts[user] for user in rest)
    assert len(heavy) >= HEAVY_SHARE * len(counts)


def test_a_user_is_in_the_topic_of_most_engagements(
    found: dict[str, Segment], past: pa.Table
) -> None:
    counts: dict[str, Counter[str]] = {}
    for user, item in zip(past["user_id"].to_pylist(), past["item_id"].to_pylist(), strict=True):
        number = int(item[1:])
        if number < 299:
            counts.setdefault(user, Counter())[TOPICS[number % 3]] += 1
    wanted = {user: min(c, key=lambda topic, c=c: (-c[topic], topic)) for user, c in counts.items()}
    told = {user: name for name in TOPICS for user in found[name].users.to_pylist()}
    assert told == wanted


def test_what_happens_in_the_experiment_moves_nobody(
    found: dict[str, Segment], past: pa.Table
) -> None:
    """Rows from the first day on do not count: a user who was new stays new."""
    times = pc.add(past["timestamp"], pa.scalar(timedelta(days=60)))
    later = past.set_column(2, "timestamp", times.cast(pa.timestamp("us", tz="UTC")))
    everything = pa.concat_tables([past, later, later, later])
    again = {each.name: each.users for each in segments(USERS, everything, items(), FIRST)}
    assert again == {name: each.users for name, each in found.items()}


def test_without_a_past_or_topics_everyone_is_new(past: pa.Table) -> None:
    told = [
        (each.name, len(each.users)) for each in segments(USERS, past.slice(0, 0), items(), FIRST)
    ]
    assert told == [("new users", 1200), ("heavy users", 0), ("all other users", 0)]
    untold = items().drop_columns("l1_topics")
    assert [each.kind for each in segments(USERS, past, untold, FIRST)] == ["users"] * 3


def test_p_values_are_corrected_over_all_segments_and_metrics(found: dict[str, Segment]) -> None:
    compared, too_small = compare_segments(
        user_days(more_time=0.3), list(found.values()), "old", "new", 14
    )
    assert [each.name for each in too_small] == ["new users"]
    assert len(compared) == len(METRICS_SHOWN) * (len(found) - 1)
    plain = sorted(each.effect.p for each in compared)
    assert min(each.adjusted_p for each in compared) == pytest.approx(
        min(1, plain[0] * len(compared))
    )
    assert all(each.adjusted_p >= each.effect.p for each in compared)
    clear = {
        each.segment.name
        for each in compared
        if each.adjusted_p < 0.05 and each.effect.metric == "time_spent"
    }
    assert "heavy users" in clear or "all other users" in clear
    assert all(min(each.effect.users) >= LEAST_USERS for each in compared)
