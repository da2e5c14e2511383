"""Stage features on a small prepared world: what it writes, and that events after the split change
none of it.
"""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_repo import store as feature_store
from feature_repo.stage import build_features
from mtmh.config import DataSettings
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.model.catalog import Catalog
from mtmh.model.two_heads import build_model

TIME = pa.timestamp("us", tz="UTC")
ITEMS, USERS, EVENTS = 40, 25, 900
SETTINGS = DataSettings(float_features=["price"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prepared/ and content/: days as timestamps, so that many events are at the same time; fresh
    items in the end.
    """
    folder, chance = tmp_path_factory.mktemp("world"), random.Random(11)
    (folder / "raw").mkdir()
    days = sorted(chance.randrange(100) for _ in range(EVENTS))
    drawn = {
        (chance.randrange(USERS), chance.randrange(5 + day * (ITEMS - 5) // 100), day)
        for day in days
    }
    rows = [
        (f"u{user:02}", f"i{item:02}", datetime(2014, 1, 1, tzinfo=UTC) + timedelta(day))
        for user, item, day in drawn
    ]
    events = pa.table(
        [pa.array(column) for column in zip(*rows, strict=True)],
        ["user_id", "item_id", "timestamp"],
    )
    topics = [chance.sample(["Books", "Cars", "Dogs", "Eggs"], n % 3) for n in range(ITEMS)]
    items = {
        "item_id": [f"i{n:02}" for n in range(ITEMS)],
        "title": ["words"] * ITEMS,
        "l2_topics": topics,
    }
    pq.write_table(events, folder / "raw" / "interactions.parquet")
    pq.write_table(
        pa.table(items | {"price": np.arange(ITEMS) / 2}), folder / "raw" / "items.parquet"
    )
    prepare(str(folder / "raw"), folder / "prepared", SETTINGS, 0)
    vectors = np.random.default_rng(0).standard_normal((ITEMS, 128)).astype(np.float32)
    vectors[3] = 0.0  # an item without text
    (folder / "content").mkdir()
    np.save(folder / "content" / "content.npy", vectors)
    return folder


@pytest.fixture(scope="module")
def built(world: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FEAST_FS_YAML_FILE_PATH", raising=False)
        build_features(
            world / "prepared", world / "content", world / "features", world / "store", SETTINGS
        )
    return world


def test_item_features_are_those_of_the_split(built: Path) -> None:
    prepared = Prepared.load(built / "prepared")
    found = pq.read_table(built / "features" / "item_features.parquet")
    popularity = prepared.popularity
    assert found.column_names == [
        "log_popularity",
        "log_recent_popularity",
        "log_age_days",
        "price",
    ]
    assert {column.type for column in found.columns} == {pa.float32()}
    np.testing.assert_allclose(found["log_popularity"].to_numpy(), np.log1p(popularity), rtol=1e-6)
    np.testing.assert_array_equal(found["price"].to_numpy(), np.arange(ITEMS) / 2)
    unseen = popularity == 0
    assert unseen.any()
    assert (found["log_age_days"].to_numpy()[unseen] == 0).all()
    assert (found["log_age_days"].to_numpy()[~unseen] > 0).all()


def test_only_the_asked_statistics_enter_the_model(built: Path, tmp_path: Path) -> None:
    """None at all leaves ids alone: a catalog without floats."""
    settings = DataSettings(statistics=[])
    build_features(built / "prepared", None, tmp_path / "features", tmp_path / "store", settings)
    assert pq.read_table(tmp_path / "features" / "item_features.parquet").column_names == []
    catalog = Catalog.load(Prepared.load(built / "prepared"), tmp_path / "features")
    assert catalog.floats.shape == (ITEMS, 0)
    model = build_model(catalog.architecture(4, [8], 4, ("engagement",)))
    assert model(catalog.ids, catalog.floats)["engagement"].shape == (ITEMS, 4)


def test_user_history_is_the_history_that_evaluation_triggers_from(built: Path) -> None:
    prepared = Prepared.load(built / "prepared")
    indptr, items = prepared.train_histories()
    item_ids = prepared.items["item_id"].to_numpy()
    found = pq.read_table(built / "features" / "user_history.parquet")
    assert found.num_rows == prepared.n_users
    for user, history in enumerate(found["item_ids"].to_pylist()):
        assert history == item_ids[items[indptr[user] : indptr[user + 1]]][:50].tolist()


def test_the_online_store_serves_the_same(built: Path) -> None:
    store = feature_store.open_store(built / "store")
    offline = pq.read_table(built / "features" / "user_history.parquet").slice(0, 5).to_pylist()
    online = feature_store.online_user_history(store, [row["user_id"] for row in offline])
    assert [history.item_ids for history in online] == [row["item_ids"] for row in offline]
    assert [history.topics for history in online] == [row["topics"] for row in offline]
    response = store.get_online_features(
        ["item_content:embedding"], {"item_id": ["i00", "i03"]}
    ).to_dict()
    with_text, without = response["embedding"]
    np.testing.assert_array_equal(
        np.float32(with_text), np.load(built / "content" / "content.npy")[0]
    )
    assert without is None


def test_events_after_the_split_change_nothing(built: Path, tmp_path: Path) -> None:
    poisoned = tmp_path / "prepared"
    poisoned.mkdir()
    events = pq.read_table(built / "prepared" / "interactions.parquet")
    split = datetime.fromisoformat(
        json.loads((built / "prepared" / "prepared.json").read_text())["split_time"]
    )
    for moment in (split, split + timedelta(days=1)):
        times = pa.chunked_array([pa.repeat(pa.scalar(moment, TIME), events.num_rows)])
        sentinel = events.set_column(events.column_names.index("timestamp"), "timestamp", times)
        sentinel = sentinel.filter(pc.equal(sentinel["item_id"], "i00"))
        events = pa.concat_tables([events, sentinel])
    pq.write_table(events, poisoned / "interactions.parquet")
    for name in ("items.parquet", "prepared.json"):
        (poisoned / name).write_bytes((built / "prepared" / name).read_bytes())
    build_features(poisoned, None, tmp_path / "features", tmp_path / "store", SETTINGS)
    for name in ("item_features.parquet", "user_history.parquet"):
        assert pq.read_table(tmp_path / "features" / name).equals(
            pq.read_table(built / "features" / name)
        )


def test_a_second_run_is_the_same_to_the_byte(built: Path, tmp_path: Path) -> None:
    build_features(
        built / "prepared", built / "content", tmp_path / "features", tmp_path / "store", SETTINGS
    )
    files = list((built / "features").rglob("*.parquet"))
    assert len(files) == 5
    for path in files:
        assert (
            path.read_bytes()
            == (tmp_path / "features" / path.relative_to(built / "features")).read_bytes()
        )


def test_content_of_other_items_is_refused(built: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "content.npy", np.ones((ITEMS + 1, 128), np.float32))
    with pytest.raises(UserError, match=rf"{ITEMS + 1} rows.* has {ITEMS}"):
        build_features(
            built / "prepared", tmp_path, tmp_path / "features", tmp_path / "store", SETTINGS
        )


def test_when_nothing_is_known_by_the_split_features_are_zero_and_histories_empty(
    built: Path, tmp_path: Path
) -> None:
    early = tmp_path / "prepared"
    early.mkdir()
    info = json.loads((built / "prepared" / "prepared.json").read_text())
    (early / "prepared.json").write_text(
        json.dumps(info | {"split_time": "2000-01-01T00:00:00+00:00"})
    )
    for name in ("items.parquet", "interactions.parquet"):
        (early / name).write_bytes((built / "prepared" / name).read_bytes())
    np.save(tmp_path / "content.npy", np.zeros((ITEMS, 128), np.float32))
    build_features(early, tmp_path, tmp_path / "features", tmp_path / "store", SETTINGS)
    features = pq.read_table(tmp_path / "features" / "item_features.parquet")
    histories = pq.read_table(tmp_path / "features" / "user_history.parquet")
    assert [features[name].to_pylist() for name in features.column_names[:3]] == [[0.0] * ITEMS] * 3
    assert (
        histories["item_ids"].to_pylist() == histories["topics"].to_pylist() == [[]] * info["users"]
    )
