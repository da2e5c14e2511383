"""A small log without a fault, for tests to break in one place each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

USERS, ITEMS, EVENTS = 8, 30, 200
MakeFolder = Callable[..., Path]
Rows = Callable[[Path], list[dict]]


def small_tables() -> dict[str, pa.Table]:
    """A log of 200 events an hour apart, over 8 users and 30 items, without a fault."""
    event = np.arange(EVENTS)
    hour = np.datetime64("2024-01-01T00", "us") + event.astype("timedelta64[h]")
    item = np.random.default_rng(0).permutation(
        np.append(np.arange(ITEMS).repeat(6), np.arange(EVENTS - 6 * ITEMS))
    )
    topics = [["Food"], ["Sports"], ["Food", "Music"], []]
    return {
        "interactions": pa.table(
            {
                "user_id": pa.array([f"u{e % USERS}" for e in event]),
                "item_id": pa.array([f"i{i:02d}" for i in item]),
                "timestamp": pa.array(hour).cast(pa.timestamp("us", tz="UTC")),
                "event": pa.repeat("view", EVENTS),
                "value": pa.array(1.0 + event % 5),
            }
        ),
        "items": pa.table(
            {
                "item_id": pa.array([f"i{i:02d}" for i in range(ITEMS)]),
                "title": pa.array([f"item {i}" for i in range(ITEMS)]),
                "text": pa.array([""] * ITEMS),
                "l1_topics": pa.array([topics[i % 4] for i in range(ITEMS)]),
                "l2_topics": pa.array(
                    [[name + " fine" for name in topics[i % 4]] for i in range(ITEMS)]
                ),
                "price": pa.array(np.arange(ITEMS) / 2),
            }
        ),
    }
