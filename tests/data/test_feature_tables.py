"""Statistics and histories against plain loops: a snapshot knows what came before it, and nothing
else.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.data import feature_tables

TIME = pa.timestamp("us", tz="UTC")
START = datetime(2024, 1, 1, tzinfo=UTC)
TIMES = [START + timedelta(days=days) for days in (0, 3, 9, 20)]
Event = tuple[str, str, datetime]


@pytest.fixture
def events() -> list[Event]:
    """Random events; several at the same time, several exactly at a snapshot, users and items with
    few or none.
    """
    chance = random.Random(3)
    hours = [chance.choice([0, 72, 216, chance.randrange(600)]) for _ in range(500)]
    return [
        (f"u{chance.randrange(12)}", f"i{chance.randrange(20)}", START + timedelta(hours=hour))
        for hour in hours
    ]


@pytest.fixture
def items() -> dict[str, tuple[datetime | None, list[str]]]:
    """Creation and topics; i20..i24 have no events."""
    chance = random.Random(4)
    created = [
        None,
        None,
        START - timedelta(days=5),
        START + timedelta(days=9),
        START + timedelta(days=99),
    ]
    return {
        f"i{n}": (created[n % 5], chance.sample(["Books", "Cars", "Dogs", "Eggs"], n % 4))
        for n in range(25)
    }


def interaction_table(events: list[Event]) -> ibis.expr.types.Table:
    columns = [pa.array([event[n] for event in events]) for n in range(2)]
    times = pa.array([event[2] for event in events], TIME)
    return ibis.memtable(pa.table([*columns, times], ["user_id", "item_id", "timestamp"]))


def item_table(items: dict[str, tuple[datetime | None, list[str]]]) -> ibis.expr.types.Table:
    created = pa.array([created for created, _ in items.values()], TIME)
    topics = pa.array([topics for _, topics in items.values()], pa.list_(pa.string()))
    return ibis.memtable(
        pa.table([list(items), created, topics], ["item_id", "created_at", "l2_topics"])
    )


def expected_statistics(events: list[Event], items: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in sorted(items):
        for at in TIMES:
            seen = [time for _, engaged, time in events if engaged == item and time < at]
            born = min([time for time in [*seen, items[item][0]] if time is not None], default=None)
            if born is None or born > at:
                continue
            recent = sum(time >= at - timedelta(days=7) for time in seen)
            figures = {
                "popularity": len(seen),
                "recent_popularity": recent,
                "age_days": (at - born) / timedelta(days=1),
            }
            logs = {f"log_{name}": math.log1p(figure) for name, figure in figures.items()}
            yield {"item_id": item, "event_timestamp": at, "created": at, **figures, **logs}


def expected_histories(
    events: list[Event], items: dict[str, Any], length: int, most: int
) -> Iterator[dict[str, Any]]:
    for user in sorted({user for user, _, _ in events}):
        for at in TIMES:
            newest = {
                item: time
                for who, item, time in sorted(events, key=lambda e: e[2])
                if who == user and time < at
            }
            history = sorted(newest, key=lambda item: (newest[item], item), reverse=True)[:length]
            if not history:
                continue
            counts = Counter(topic for item in history for topic in items[item][1])
            top = sorted(counts, key=lambda topic: (-counts[topic], topic))[:most]
            shares = [counts[topic] / counts.total() for topic in top]
            row = {"user_id": user, "event_timestamp": at, "created": at, "item_ids": history}
            yield row | {"topics": top, "topic_shares": pytest.approx(shares)}


def test_item_statistics_against_loops(events: list[Event], items: dict[str, Any]) -> None:
    found = feature_tables.item_statistics(
        interaction_table(events), item_table(items), TIMES
    ).to_pyarrow()
    expected = list(expected_statistics(events, items))
    assert len(expected) > 30
    for row, wanted in zip(found.to_pylist(), expected, strict=True):
        assert row == {
            name: pytest.approx(v, 1e-6) if isinstance(v, float) else v
            for name, v in wanted.items()
        }
    for name in ("age_days", "log_popularity", "log_recent_popularity", "log_age_days"):
        assert found.schema.field(name).type == pa.float32()


def test_user_history_against_loops(events: list[Event], items: dict[str, Any]) -> None:
    table = feature_tables.user_history(
        interaction_table(events), item_table(items), TIMES, length=7, interests=2
    )
    expected = list(expected_histories(events, items, length=7, most=2))
    assert len(expected) > 30
    assert table.to_pyarrow().to_pylist() == expected


def test_without_topics_a_history_has_no_interests(
    events: list[Event], items: dict[str, Any]
) -> None:
    bare = {item: (created, []) for item, (created, _) in items.items()}
    found = feature_tables.user_history(
        interaction_table(events), item_table(bare), [TIMES[-1]]
    ).to_pyarrow()
    assert found["topics"].to_pylist() == found["topic_shares"].to_pylist() == [[]] * found.num_rows


@given(span=st.timedeltas(timedelta(0), timedelta(days=9000)), most=st.integers(1, 40))
def test_snapshots_are_bounded_and_end_at_the_asked_time(span: timedelta, most: int) -> None:
    times = feature_tables.snapshot_times(START, START + span, most)
    assert times[-1] == START + span
    assert 1 <= len(times) <= most
    assert times == sorted(times)
    assert times[0] >= START
    assert all(later - earlier >= timedelta(days=1) for earlier, later in pairwise(times))
