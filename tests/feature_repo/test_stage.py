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
    """prepared/: days as timestamps, so that many events are at the same time; fresh
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
    return folder


@pytest.fixture(scope="module")
def built(world: Path) -> Path:
    build_features(world / "prepared", world / "features", SETTINGS)
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
    build_features(built / "prepared", tmp_path / "features", settings)
    assert pq.read_table(tmp_path / "features" / "item_features.parquet").column_names == []
    catalog = Catalog.load(Prepared.load(built / "prepared"), tmp_path / "features")
    assert catalog.floats.shape == (ITEMS, 0)
    model = build_model(catalog.architecture(4, [8], 4, ("engagement",)))
    assert model(catalog.ids, catalog.floats)["engagement"].shape == (ITEMS, 4)


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
    build_features(poisoned, tmp_path / "features", SETTINGS)
    for name in ("item_features.parquet", "sources/item_statistics.parquet"):
        assert pq.read_table(tmp_path / "features" / name).equals(
            pq.read_table(built / "features" / name)
        )


def test_a_second_run_is_the_same_to_the_byte(built: Path, tmp_path: Path) -> None:
    build_features(built / "prepared", tmp_path / "features", SETTINGS)
    files = list((built / "features").rglob("*.parquet"))
    assert len(files) == 2
    for path in files:
        assert (
            path.read_bytes()
            == (tmp_path / "features" / path.relative_to(built / "features")).read_bytes()
        )


def test_when_nothing_is_known_by_the_split_features_are_zero(built: Path, tmp_path: Path) -> None:
    early = tmp_path / "prepared"
    early.mkdir()
    info = json.loads((built / "prepared" / "prepared.json").read_text())
    (early / "prepared.json").write_text(
        json.dumps(info | {"split_time": "2000-01-01T00:00:00+00:00"})
    )
    for name in ("items.parquet", "interactions.parquet"):
        (early / name).write_bytes((built / "prepared" / name).read_bytes())
    build_features(early, tmp_path / "features", SETTINGS)
    features = pq.read_table(tmp_path / "features" / "item_features.parquet")
    assert [features[name].to_pylist() for name in features.column_names[:3]] == [[0.0] * ITEMS] * 3


def test_a_feature_with_the_name_of_a_statistic_is_refused(built: Path, tmp_path: Path) -> None:
    settings = DataSettings(float_features=["log_age_days"])
    with pytest.raises(UserError, match=r"names \['log_age_days'\], which the feature stage"):
        build_features(built / "prepared", tmp_path / "features", settings)
