"""Feature stores over hand-made sources: at a point in time, online in SQLite, and in a real Redis
started here.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from feature_repo import store as feature_store

TIME = pa.timestamp("us", tz="UTC")
STATISTICS = pa.schema(
    [
        ("item_id", pa.string()),
        ("event_timestamp", TIME),
        ("created", TIME),
        ("popularity", pa.int64()),
        ("recent_popularity", pa.int64()),
        *[
            (name, pa.float32())
            for name in ("age_days", "log_popularity", "log_recent_popularity", "log_age_days")
        ],
    ]
)
HISTORY = pa.schema(
    [
        ("user_id", pa.string()),
        ("event_timestamp", TIME),
        ("created", TIME),
        ("item_ids", pa.list_(pa.string())),
        ("topics", pa.list_(pa.string())),
        ("topic_shares", pa.list_(pa.float32())),
    ]
)


def day(number: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


@pytest.fixture
def write_sources(tmp_path: Path) -> Callable[..., Path]:
    """Write sources from (item, event day, created day, popularity) and (user, event day, items
    newest first).
    """

    def write(
        statistics: list[tuple[str, float, float, int]],
        histories: list[tuple[str, float, list[str]]],
    ) -> Path:
        folder = tmp_path / "sources"
        folder.mkdir(exist_ok=True)
        zeros = {name: 0 for name in STATISTICS.names[4:]}
        items = [
            {
                "item_id": item,
                "event_timestamp": day(at),
                "created": day(created),
                "popularity": count,
                **zeros,
            }
            for item, at, created, count in statistics
        ]
        users = [
            {"user_id": user, "event_timestamp": day(at), "created": day(at), "item_ids": history}
            | {"topics": ["Books"], "topic_shares": [1.0]}
            for user, at, history in histories
        ]
        pq.write_table(pa.Table.from_pylist(items, STATISTICS), folder / "item_statistics.parquet")
        pq.write_table(pa.Table.from_pylist(users, HISTORY), folder / "user_history.parquet")
        return folder

    return write


@pytest.fixture
def offline(tmp_path: Path) -> FeatureStore:
    """A store for reads at a point in time."""
    return feature_store.open_offline("mtmh", str(tmp_path / "registry.db"))


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """An online store in SQLite."""
    monkeypatch.delenv("FEAST_FS_YAML_FILE_PATH", raising=False)
    return feature_store.open_store(tmp_path / "store", "mtmh_tiny_1")


@pytest.fixture(params=["embedded", "in_redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    """The same tests over SQLite and over Redis."""
    given = request.getfixturevalue(request.param)
    if request.param == "embedded":
        return given
    return feature_store.open_store(tmp_path / "store", "mtmh_tiny_1")
