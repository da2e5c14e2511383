"""Feature stores over hand-made sources: SQLite embedded, and a real Redis started here."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
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
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    monkeypatch.delenv("FEAST_FS_YAML_FILE_PATH", raising=False)
    return feature_store.open_store(tmp_path / "store")


@pytest.fixture(params=["embedded", "cluster"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FeatureStore:
    """The same tests over SQLite and over Redis."""
    if request.param == "embedded":
        return request.getfixturevalue("embedded")
    monkeypatch.setenv(
        "FEAST_FS_YAML_FILE_PATH",
        str(feature_store.EMBEDDED.with_name("feature_store.cluster.yaml")),
    )
    monkeypatch.setenv("REDIS_CONNECTION", request.getfixturevalue("redis_address"))
    return feature_store.open_store(tmp_path / "store")


@pytest.fixture
def redis_address(tmp_path: Path) -> Iterator[str]:
    """host:port of an empty redis-server that lives as long as the test."""
    import redis

    binary = shutil.which("redis-server")
    if binary is None:
        message = "no redis-server on the PATH: install it with 'apt-get install -y redis-server'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    server = subprocess.Popen([binary, "--port", str(port), *options], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            for _ in range(200):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            else:
                pytest.fail(f"redis-server did not answer on port {port} within 10 s")
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
