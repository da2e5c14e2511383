"""Small data folders to break in one place each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtmh.data.files import write_parquet

USERS, ITEMS, EVENTS = 8, 30, 200
MakeFolder = Callable[..., Path]
Rows = Callable[[Path], list[dict]]


def small_tables() -> dict[str, pa.Table]:
    """A log of 200 events an hour apart, over 8 users and 30 items, without a fault."""
    event = np.arange(EVENTS)
    hour = np.datetime64("2024-01-01T00", "us") + event.astype("timedelta64[h]")
    item = np.random.default_rng(0).permutation(np.append(np.arange(ITEMS).repeat(6), np.arange(EVENTS - 6 * ITEMS)))
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
                "l2_topics": pa.array([[name + " fine" for name in topics[i % 4]] for i in range(ITEMS)]),
                "price": pa.array(np.arange(ITEMS) / 2),
            }
        ),
    }


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write small tables, with some of them (or some of their columns) replaced, and return the folder."""

    def make(interactions: dict[str, pa.Array] | pa.Table | None = None, items: dict | pa.Table | None = None) -> Path:
        tables = small_tables()
        for name, change in (("interactions", interactions), ("items", items)):
            if isinstance(change, pa.Table):
                tables[name] = change
            for column, values in change.items() if isinstance(change, dict) else ():
                position = tables[name].column_names.index(column)
                tables[name] = tables[name].set_column(position, column, values)
            write_parquet(tables[name], tmp_path / "source" / f"{name}.parquet")
        return tmp_path / "source"

    return make


@pytest.fixture
def rows() -> Rows:
    """The rows of a Parquet file."""
    return lambda path: pq.read_table(path).to_pylist()
