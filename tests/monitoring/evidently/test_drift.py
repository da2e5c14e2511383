"""Drift: none where there is none, all of it where it was planted; features as the training
computed them.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from monitoring.evidently.drift import LEAST, TOPIC, comparable, mean_distance, statistics_by_day
from mtmh.data.feature_tables import item_statistics
from mtmh.data.synthetic import make_world
from mtmh.experiment.folder import Experiment, ExperimentFolder


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def test_the_distance_of_two_samples_of_one_distribution_is_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(300, 8)))
    chance = rng.dirichlet(np.ones(300))
    found = [mean_distance(vectors, *rng.multinomial([60, 400], chance)) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20  # 20 = sqrt(400): three standard errors
    biased = [
        np.sum((np.average(vectors, 0, rng.multinomial(60, chance)) - chance @ vectors) ** 2)
        for _ in range(400)
    ]
    assert np.mean(biased) > 5 * abs(np.mean(found))


def test_a_planted_shift_is_its_squared_length() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(np.concatenate([rng.normal(size=(200, 6)) + 1, rng.normal(size=(200, 6)) - 1]))
    one, other = np.repeat([1, 0], 200) * 50, np.repeat([0, 1], 200) * 50
    expected = np.sum((vectors[:200].mean(0) - vectors[200:].mean(0)) ** 2)
    assert mean_distance(vectors, one, other) == pytest.approx(expected, abs=1e-3)
    assert mean_distance(vectors, one, one) == pytest.approx(0, abs=1e-3)


def test_too_few_tell_nothing() -> None:
    vectors = unit(np.eye(4))
    few, many = np.array([LEAST - 1, 0, 0, 0]), np.array([0, LEAST, 0, 0])
    assert np.isnan(mean_distance(vectors, few, many))
    assert mean_distance(vectors, many, many) == pytest.approx(0)
    frame = pd.DataFrame(
        {"a": [1.0, np.nan] * LEAST, "b": [np.nan] * 2 * LEAST, TOPIC: ["x", "y"] * LEAST}
    )
    assert (
        comparable(frame, frame.assign(**{TOPIC: "x"})) == []
    )  # a constant tells nothing, and b has no value
    assert comparable(frame, frame.assign(a=range(2 * LEAST))) == ["a", TOPIC]


def test_features_of_a_day_are_those_that_training_computes(tmp_path: Path) -> None:
    world = make_world(100, 80, 30, 0).tables
    first, last, days = date(2025, 1, 20), date(2025, 1, 28), 9
    log = world["interactions"]
    before = pa.array(log["timestamp"].to_numpy() < np.datetime64(first))
    pq.write_table(
        log.filter(before).select(["user_id", "item_id", "timestamp"]), tmp_path / "history.parquet"
    )
    pq.write_table(log.filter(pa.compute.invert(before)), tmp_path / "log.parquet")
    pq.write_table(log, tmp_path / "all.parquet")
    pq.write_table(world["items"], tmp_path / "items.parquet")
    backend = ibis.duckdb.connect()
    backend.raw_sql("set timezone = 'UTC'")
    read = {
        name: backend.read_parquet(tmp_path / f"{name}.parquet") for name in ("log", "all", "items")
    }
    arms = [{"name": "a"}, {"name": "b"}]
    told = {
        "salt": "",
        "control": "a",
        "treatment": "b",
        "arms": arms,
        "first_day": first,
        "days": days,
    }
    place = ExperimentFolder(tmp_path, Experiment.model_validate({**told, "simulated": True}))
    item_id = world["items"]["item_id"].combine_chunks()
    found = statistics_by_day(place, read["log"], item_id, first, last)

    times = [datetime(2025, 1, 20, tzinfo=UTC) + timedelta(days=n) for n in range(days)]
    expected = item_statistics(read["all"], read["items"], times).to_pyarrow().to_pandas()
    assert len(expected) > 400
    row = pd.Index(item_id.to_pylist()).get_indexer(expected["item_id"])
    day = ((expected["event_timestamp"] - times[0]) // timedelta(days=1)).to_numpy()
    for name, values in found.items():
        assert values.shape == (days, 80)
        np.testing.assert_allclose(values[day, row], expected[name], rtol=1e-6)
