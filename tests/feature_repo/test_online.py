"""Loading and reading the online store, SQLite and Redis: the same answers, and no row lost."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from feast import FeatureStore
from helpers.only_locked import PYTHONPATH
from redis import Redis

from feature_repo import online
from feature_repo import store as feature_store
from feature_repo.project import project_of
from feature_repo.views import user_definitions
from mtmh.errors import UserError

Write = Callable[..., Path]
START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORIES = [("u", 1, ["a"]), ("u", 3, ["b", "a"]), ("v", 2, ["b"])]


def items(store: FeatureStore, users: list[str]) -> list[list[str]]:
    return [history.item_ids for history in online.online_user_history(store, users)]


def test_each_users_newest_row_is_served(store: FeatureStore, write_sources: Write) -> None:
    store.apply(user_definitions(write_sources([], HISTORIES)))
    assert online.materialize(store, "user_history") == 2
    u, nobody, v = online.online_user_history(store, ["u", "nobody", "v"])
    assert (u.item_ids, u.topics, u.topic_shares) == (["b", "a"], ["Books"], [1.0])
    assert u.as_of == START + timedelta(days=3)
    assert (nobody.item_ids, nobody.topics, nobody.topic_shares, nobody.as_of) == ([], [], [], None)
    assert v.item_ids == ["b"]


def test_what_the_routers_image_has_is_enough_to_read(
    store: FeatureStore, write_sources: Write, tmp_path: Path
) -> None:
    store.apply(user_definitions(write_sources([], HISTORIES)))
    online.materialize(store, "user_history")
    code = (
        "import sys; from pathlib import Path; from helpers.only_locked import ROOT, only; "
        "only(ROOT / 'requirements-router.txt'); "
        "from feature_repo.feast_import import import_feast; import_feast(); "
        "from feature_repo.online import online_user_history; "
        "from feature_repo.store import open_store; "
        "store = open_store(Path(sys.argv[1]), sys.argv[2]); "
        "print(online_user_history(store, ['v'])[0].item_ids)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store"), store.project]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "['b']\n", done.stderr


def test_a_second_load_replaces_values_of_the_same_time(
    store: FeatureStore, write_sources: Write
) -> None:
    store.apply(user_definitions(write_sources([], HISTORIES)))
    online.materialize(store, "user_history")
    write_sources([], [("u", 3, ["c"]), ("v", 2, ["b"])])
    assert online.materialize(store, "user_history") == 2
    assert items(store, ["u", "v"]) == [["c"], ["b"]]


def test_an_empty_source_loads_nothing(store: FeatureStore, write_sources: Write) -> None:
    store.apply(user_definitions(write_sources([], [])))
    assert online.materialize(store, "user_history") == 0
    assert items(store, ["u"]) == [[]]


def test_a_lost_row_raises(embedded: FeatureStore, write_sources: Write) -> None:
    embedded.apply(user_definitions(write_sources([], HISTORIES)))
    is_u = f"hex(NEW.entity_key) LIKE '%{b'u'.hex()}'"
    with sqlite3.connect(embedded.config.online_store.path) as database:
        database.execute(
            f"CREATE TRIGGER lose BEFORE INSERT ON mtmh_tiny_1_user_history WHEN {is_u}"
            " BEGIN SELECT RAISE(IGNORE); END"
        )
    database.close()
    with pytest.raises(
        online.MaterializationError, match=r"user_history: expected 2 entities .* found 1"
    ):
        online.materialize(embedded, "user_history")


def test_a_row_left_from_an_earlier_load_does_not_count(
    embedded: FeatureStore, write_sources: Write
) -> None:
    embedded.apply(user_definitions(write_sources([], [("u", 1, ["a"]), ("v", 2, ["b"])])))
    online.materialize(embedded, "user_history")
    with sqlite3.connect(embedded.config.online_store.path) as database:
        database.execute(
            "CREATE TRIGGER lose BEFORE UPDATE ON mtmh_tiny_1_user_history"
            " BEGIN SELECT RAISE(IGNORE); END"
        )
    database.close()
    write_sources([], HISTORIES)
    with pytest.raises(
        online.MaterializationError, match=r"user_history: expected 2 entities .* found 1"
    ):
        online.materialize(embedded, "user_history")


def test_a_full_redis_is_said(in_redis: str, tmp_path: Path, write_sources: Write) -> None:
    """Nothing is evicted in silence, and what was there before is still served."""
    histories = [(f"u{n}", 1, [f"item{n}-{k}" for k in range(50)]) for n in range(3000)]
    store = feature_store.open_store(tmp_path / "store", "mtmh_tiny_1")
    store.apply(user_definitions(write_sources([], histories)))
    host, port = in_redis.split(":")
    with Redis(host, int(port)) as redis:
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 2**20)
        redis.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(UserError, match=r"mtmh_tiny_1, refuses: .*maxmemory.* room for the users"):
        online.materialize(store, "user_history")


def test_a_missing_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "FEAST_FS_YAML_FILE_PATH",
        str(feature_store.EMBEDDED.with_name("feature_store.cluster.yaml")),
    )
    monkeypatch.delenv("REDIS_CONNECTION", raising=False)
    with pytest.raises(UserError, match="REDIS_CONNECTION"):
        feature_store.open_store(tmp_path, "mtmh_tiny_1")


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        feature_store.open_store(tmp_path, "mtmh_tiny_1")


def test_a_projects_name_is_its_own_and_no_end_of_anothers() -> None:
    """Rows are removed from Redis by the end of their keys."""
    assert project_of("mtmh-synthetic", "7") == "mtmh_synthetic_7"
    data = ["a", "a-b", "a.b", "a_b", "ab", "b", "mtmh_b", "x_mtmh_b", "-", "ä", "1", "1_1", "A"]
    names = [project_of(f"mtmh-{name}", version) for name in data for version in ("1", "11")]
    assert len(set(names)) == len(names)
    for name in names:
        assert [other for other in names if other.endswith(name)] == [name]
        assert name.isascii()
        assert name.replace("_", "").isalnum()
