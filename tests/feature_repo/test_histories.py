"""What serving reads: everybody's history as of now, a version's own, from SQLite and from Redis."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import Stages
from helpers.postgres_server import postgres_server
from kfp import dsl
from redis import Redis

from components.histories import histories
from feature_repo import online
from feature_repo.histories import build_histories
from feature_repo.project import project_of
from feature_repo.shared import open_shared, share
from feature_repo.stage import build_features
from feature_repo.store import open_store, read_features
from mtmh.config import DataSettings
from mtmh.data.feature_tables import HISTORY
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError

LATE = "came after the split"


@pytest.fixture(scope="module")
def prepared(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world, and a user whose only events are its last three, at one time."""
    folder = tmp_path_factory.mktemp("prepared")
    events = pq.read_table(world.prepared / "interactions.parquet")
    last = events.slice(events.num_rows - 3)
    columns = {"user_id": pa.array([LATE] * 3), "item_id": pa.array(["i01", "i40", "i07"])}
    columns["timestamp"] = pa.repeat(last["timestamp"][2], 3)
    for name, column in columns.items():
        last = last.set_column(last.column_names.index(name), name, column)
    pq.write_table(pa.concat_tables([events, last]), folder / "interactions.parquet")
    for name in ("items.parquet", "prepared.json"):
        (folder / name).write_bytes((world.prepared / name).read_bytes())
    return folder


def newest_items(prepared: Path, user: str) -> list[str]:
    """By a plain loop over all interactions."""
    rows = pq.read_table(prepared / "interactions.parquet").to_pylist()
    times: dict[str, object] = {}
    for row in rows:
        if row["user_id"] == user:
            times[row["item_id"]] = max(
                row["timestamp"], times.get(row["item_id"], row["timestamp"])
            )
    return sorted(times, key=lambda item: (times[item], item), reverse=True)[:HISTORY]


def served(folder: Path, users: list[str]) -> list[list[str]]:
    """As the router reads them: the registry says which project it is."""
    store = open_store(folder)
    return [history.item_ids for history in online.online_user_history(store, users)]


@pytest.fixture(params=["embedded", "in_redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder for histories, the environment being a laptop's or a cluster's."""
    request.getfixturevalue(request.param)
    return tmp_path / "histories"


def test_everybodys_newest_items_are_served_after_the_split_too(
    place: Path, prepared: Path
) -> None:
    build_histories(prepared, place, "mtmh_small_1")
    events = pq.read_table(prepared / "interactions.parquet")
    users = events["user_id"].unique().to_pylist()
    assert LATE in users
    store = open_store(place)
    assert store.project == "mtmh_small_1"
    histories = online.online_user_history(store, users)
    assert [one.item_ids for one in histories] == [newest_items(prepared, user) for user in users]
    # As of the log's newest event.
    newest = pc.max(events["timestamp"]).as_py()
    assert {abs((one.as_of - newest).total_seconds()) <= 1 for one in histories} == {True}


def test_the_features_of_training_leave_redis_alone(
    in_redis: str, world: Stages, tmp_path: Path
) -> None:
    """They are made before the gate, and come from the cache: nothing that serves may hang on
    them."""
    build_features(world.prepared, tmp_path / "features", DataSettings())
    with Redis(port=int(in_redis.partition(":")[2])) as redis:
        assert redis.dbsize() == 0
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert made == {"features/item_features.parquet", "features/sources/item_statistics.parquet"}


def test_a_redis_that_lost_everything_is_filled_by_running_again(
    in_redis: str, prepared: Path, tmp_path: Path
) -> None:
    build_histories(prepared, tmp_path / "first", "mtmh_small_1")
    with Redis(port=int(in_redis.partition(":")[2])) as redis:
        redis.flushall()
    assert served(tmp_path / "first", [LATE]) == [[]]
    build_histories(prepared, tmp_path / "again", "mtmh_small_1")
    assert served(tmp_path / "first", [LATE]) == [["i40", "i07", "i01"]]


def test_versions_and_data_sets_have_rows_of_their_own_in_one_redis(
    in_redis: str, prepared: Path, world: Stages, tmp_path: Path
) -> None:
    build_histories(world.prepared, tmp_path / "1", project_of("mtmh-small", "1"))
    build_histories(prepared, tmp_path / "2", project_of("mtmh-small", "2"))
    build_histories(world.prepared, tmp_path / "other", project_of("mtmh-mtmh_small", "2"))
    # Back to version 1, and the other data: both know what they knew.
    assert served(tmp_path / "1", [LATE]) == served(tmp_path / "other", [LATE]) == [[]]
    assert served(tmp_path / "2", [LATE]) == [["i40", "i07", "i01"]]
    registry = (tmp_path / "2" / "registry.db").read_bytes()
    online.remove_rows(tmp_path / "2")
    assert served(tmp_path / "2", [LATE, "u03"]) == [[], []]
    assert (tmp_path / "2" / "registry.db").read_bytes() == registry
    for name in ("1", "other"):
        assert served(tmp_path / name, ["u03"]) == [newest_items(world.prepared, "u03")]


def test_a_redis_that_is_not_there_is_said(
    in_redis: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_CONNECTION", "127.0.0.1:9")
    with pytest.raises(UserError, match=r"project mtmh_small_1, refuses: .*127\.0\.0\.1:9"):
        build_histories(prepared, tmp_path / "histories", "mtmh_small_1")


def run_step(prepared: Path, out: Path, model_name: str, version: str) -> None:
    """The step, over the features of a run before it."""
    histories.python_func(
        prepared=dsl.Dataset(name="prepared", uri=str(prepared)),
        features=dsl.Dataset(name="features", uri=str(out / "features")),
        version=version,
        model_name=model_name,
        shared_tables=str(out / "shared" / model_name),
        histories=dsl.Artifact(name="histories", uri=str(out / "histories" / version)),
    )


def read_by_another(registry: str, project: str, prepared: Path) -> list[int]:
    """Each item's popularity when the log ended, by a process that knows the registry alone."""
    items = pq.read_table(prepared / "items.parquet")["item_id"]
    newest = pc.max(pq.read_table(prepared / "interactions.parquet")["timestamp"])
    rows = pa.table({"item_id": items, "event_timestamp": pa.repeat(newest, len(items))})
    store = open_shared(registry, project)
    return read_features(store, rows, ["item_statistics:popularity"])["popularity"].to_pylist()


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, as the Secret feast-registry has it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'registry.sqlite'}"
        return
    with postgres_server() as url:
        yield url


@pytest.mark.usefixtures("embedded")
def test_runs_share_a_registry_in_sql_and_leave_each_others_tables(
    registry: str, prepared: Path, world: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEAST_REGISTRY", registry)
    build_features(prepared, tmp_path / "features", DataSettings())
    run_step(prepared, tmp_path, "mtmh-small", "1")
    run_step(world.prepared, tmp_path, "mtmh-other", "1")
    shutil.rmtree(tmp_path / "features")  # with the pod
    shutil.rmtree(tmp_path / "histories")
    # Null: what was not there by the split.
    expected = [count or None for count in Prepared.load(prepared).popularity.tolist()]
    for project in ("mtmh_small", "mtmh_other"):
        assert read_by_another(registry, project, prepared) == expected
    # Another version of the same data: its newer tables, for the same readers.
    build_features(world.prepared, tmp_path / "features", DataSettings())
    run_step(prepared, tmp_path, "mtmh-small", "2")
    store = open_shared(registry, "mtmh_small")
    assert {view.name for view in store.list_feature_views()} == {"item_statistics", "user_history"}
    assert read_by_another(registry, "mtmh_small", prepared) == expected


def test_a_shared_registry_that_is_not_there_is_said(prepared: Path, tmp_path: Path) -> None:
    build_features(prepared, tmp_path / "features", DataSettings())
    tables = [tmp_path / "features" / "sources" / "item_statistics.parquet"]
    with pytest.raises(
        UserError, match="FEAST_REGISTRY: the shared registry cannot be used"
    ) as told:
        share("postgresql+psycopg://me:hidden@127.0.0.1:9/feast", "mtmh_small", tables, tmp_path)
    assert "hidden" not in str(told.value)
