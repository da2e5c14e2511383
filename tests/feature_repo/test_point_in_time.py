"""The point-in-time read: no row may see what came, or was written down, after its own time."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from feast import FeatureStore

from feature_repo import store as feature_store
from feature_repo.views import item_definitions

Write = Callable[..., Path]
START = datetime(2024, 1, 1, tzinfo=UTC)


def read(store: FeatureStore, rows: list[tuple[str, float]]) -> list[int | None]:
    table = pa.table(
        {
            "item_id": [item for item, _ in rows],
            "event_timestamp": pa.array(
                [START + timedelta(days=at) for _, at in rows], pa.timestamp("us", tz="UTC")
            ),
        }
    )
    found = feature_store.read_features(store, table, ["item_statistics:popularity"])
    assert found.select(["item_id", "event_timestamp"]).equals(table)
    return found["popularity"].to_pylist()


def test_hand_made_case_where_a_leak_changes_the_answer(
    offline: FeatureStore, write_sources: Write
) -> None:
    statistics = [
        ("old", 1, 1, 10),
        ("old", 3, 3, 30),
        ("late", 1, 1, 1),
        ("late", 2, 9, 99),  # of day 2, but written down on day 9
        ("corrected", 1, 1, 5),
        ("corrected", 1, 2, 6),  # the same snapshot again, corrected on day 2
        ("twice", 1, 1, 7),
        ("twice", 1, 1, 7),  # an exact duplicate
        ("future", 8, 8, 80),
    ]
    offline.apply(item_definitions(write_sources(statistics, [])))
    cases = [
        (("old", 0.5), None),
        (("old", 1), 10),
        (("old", 2.9), 10),
        (("old", 3), 30),
        (("late", 5), 1),
        (("late", 9), 99),
        (("corrected", 1.5), 5),
        (("corrected", 2), 6),
        (("twice", 2), 7),
        (("future", 7), None),
        (("nobody", 7), None),
        (("old", 2.9), 10),  # asked twice, answered twice
    ]
    assert read(offline, [row for row, _ in cases]) == [expected for _, expected in cases]


def test_brute_force_oracle(offline: FeatureStore, write_sources: Write) -> None:
    chance = random.Random(7)
    statistics = []
    for serial in range(400):
        at = chance.randrange(20)
        created = (
            at + chance.choice([0, 0, 0, 1, 6]) + serial / 1e4
        )  # never two at once: the newest is one
        statistics.append((f"i{chance.randrange(25)}", at, created, serial))
    rows = [(f"i{chance.randrange(30)}", chance.randrange(-1, 24)) for _ in range(600)]
    offline.apply(item_definitions(write_sources(statistics, [])))

    def newest(item: str, at: float) -> int | None:
        known = [
            (t, created, n)
            for i, t, created, n in statistics
            if i == item and t <= at and created <= at
        ]
        return max(known)[2] if known else None

    assert read(offline, rows) == [newest(*row) for row in rows]


def test_rows_from_the_future_change_nothing(offline: FeatureStore, write_sources: Write) -> None:
    statistics = [(f"i{n}", n % 5, n % 5, n) for n in range(50)]
    rows = [(f"i{n}", 6.0) for n in range(60)]
    offline.apply(item_definitions(write_sources(statistics, [])))
    before = read(offline, rows)
    poison = [(f"i{n}", 6.001, 6.001, -1) for n in range(60)] + [
        (f"i{n}", 5, 7, -1) for n in range(60)
    ]
    write_sources(statistics + poison, [])
    assert read(offline, rows) == before


def test_no_rows_are_a_clear_error(offline: FeatureStore, write_sources: Write) -> None:
    offline.apply(item_definitions(write_sources([], [])))
    with pytest.raises(ValueError, match="no rows"):
        read(offline, [])
