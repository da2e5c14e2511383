"""Loading and reading the online store, SQLite and Redis: the same answers, and no row lost."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from feast import FeatureStore, FileSource
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from helpers.only_locked import PYTHONPATH

from feature_repo import store as feature_store
from feature_repo.views import source
from mtmh.errors import UserError

Write = Callable[..., Path]
START = datetime(2024, 1, 1, tzinfo=UTC)
STATISTICS = [
    ("a", 1, 1, 10),
    ("a", 3, 3, 30),
    ("a", 8, 8, 80),
    ("b", 2, 2, 5),
    ("future", 8, 8, 8),
]
HISTORIES = [("u", 1, ["a"]), ("u", 3, ["b", "a"]), ("v", 2, ["b"]), ("u", 9, ["future"])]
AT = START + timedelta(days=5)


def popularity(store: FeatureStore, items: list[str]) -> list[float | None]:
    column = feature_store.online_item_features(store, items)["popularity"]
    return [None if value != value else value for value in column.tolist()]


def test_the_newest_rows_up_to_a_time_are_served(store: FeatureStore, write_sources: Write) -> None:
    assert feature_store.apply(store, write_sources(STATISTICS, HISTORIES)) == [
        "item_statistics",
        "user_history",
    ]
    assert feature_store.materialize(store, "item_statistics", AT) == 2
    assert feature_store.materialize(store, "user_history", AT) == 2
    assert popularity(store, ["b", "nobody", "a", "future"]) == [5, None, 30, None]
    u, nobody, v = feature_store.online_user_history(store, ["u", "nobody", "v"])
    assert (u.item_ids, u.topics, u.topic_shares) == (["b", "a"], ["Books"], [1.0])
    assert u.as_of == START + timedelta(days=3)
    assert (nobody.item_ids, nobody.topics, nobody.topic_shares, nobody.as_of) == ([], [], [], None)
    assert v.item_ids == ["b"]


def test_what_the_routers_image_has_is_enough_to_read(
    store: FeatureStore, write_sources: Write, tmp_path: Path
) -> None:
    feature_store.apply(store, write_sources(STATISTICS, HISTORIES))
    feature_store.materialize(store, "user_history")
    code = (
        "import sys; from pathlib import Path; from helpers.only_locked import ROOT, only; "
        "only(ROOT / 'requirements-router.txt'); "
        "from feature_repo.feast_import import import_feast; import_feast(); "
        "from feature_repo.store import online_user_history, open_store; "
        "print(online_user_history(open_store(Path(sys.argv[1])), ['v'])[0].item_ids)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "['b']\n", done.stderr


def test_a_second_load_replaces_values_of_the_same_time(
    store: FeatureStore, write_sources: Write
) -> None:
    feature_store.apply(store, write_sources(STATISTICS, HISTORIES))
    feature_store.materialize(store, "item_statistics", AT)
    write_sources([("a", 3, 3, 31), ("b", 2, 2, 5)], HISTORIES)
    assert feature_store.materialize(store, "item_statistics", AT) == 2
    assert popularity(store, ["a", "b"]) == [31, 5]


def test_an_empty_source_loads_nothing(store: FeatureStore, write_sources: Write) -> None:
    feature_store.apply(store, write_sources([], []))
    assert feature_store.materialize(store, "item_statistics", AT) == 0
    assert popularity(store, ["a"]) == [None]


@pytest.mark.parametrize(("view", "entity"), [("item_statistics", "a"), ("user_history", "u")])
def test_a_lost_row_raises(
    embedded: FeatureStore, write_sources: Write, view: str, entity: str
) -> None:
    feature_store.apply(embedded, write_sources(STATISTICS, HISTORIES))
    is_entity = f"hex(NEW.entity_key) LIKE '%{entity.encode().hex()}'"
    with sqlite3.connect(embedded.config.online_store.path) as online:
        online.execute(
            f"CREATE TRIGGER lose BEFORE INSERT ON mtmh_{view} WHEN {is_entity} BEGIN SELECT "
            f"RAISE(IGNORE); END"
        )
    online.close()
    with pytest.raises(
        feature_store.MaterializationError, match=f"{view}: expected 2 entities .* found 1"
    ):
        feature_store.materialize(embedded, view, AT)


def test_a_row_left_from_an_earlier_load_does_not_count(
    embedded: FeatureStore, write_sources: Write
) -> None:
    feature_store.apply(embedded, write_sources(STATISTICS, HISTORIES))
    feature_store.materialize(embedded, "item_statistics", START + timedelta(days=2))
    with sqlite3.connect(embedded.config.online_store.path) as online:
        online.execute(
            "CREATE TRIGGER lose BEFORE UPDATE ON mtmh_item_statistics BEGIN SELECT "
            "RAISE(IGNORE); END"
        )
    online.close()
    with pytest.raises(
        feature_store.MaterializationError, match=r"item_statistics: expected 2 entities .* found 1"
    ):
        feature_store.materialize(embedded, "item_statistics", AT)


def test_a_missing_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "FEAST_FS_YAML_FILE_PATH",
        str(feature_store.EMBEDDED.with_name("feature_store.cluster.yaml")),
    )
    monkeypatch.delenv("REDIS_CONNECTION", raising=False)
    with pytest.raises(UserError, match="REDIS_CONNECTION"):
        feature_store.open_store(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        feature_store.open_store(tmp_path)


@pytest.mark.filterwarnings(
    "ignore:The spark data source API is an experimental feature:RuntimeWarning"
)
def test_the_engine_decides_how_a_source_is_described(tmp_path: Path) -> None:
    local = source("item_statistics", tmp_path, "duckdb")
    cluster = source("item_statistics", tmp_path, "spark")
    assert isinstance(local, FileSource)
    assert isinstance(cluster, SparkSource)
    assert local.path == cluster.path == str(tmp_path / "item_statistics.parquet")
    with pytest.raises(ValueError, match="'file'"):
        source("item_statistics", tmp_path, "file")
