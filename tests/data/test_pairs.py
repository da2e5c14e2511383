"""Pairs and their weights against plain Python and the paper's formulas."""

import json
from collections import defaultdict
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import SUBJECT, Stages
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmh.config import PairSettings
from mtmh.data.pairs import (
    mine_pairs,
    propensity_weight,
    recency_weight,
    sim_weight,
    user_weight,
    write_pairs,
)
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError

# Few users, items and moments, so that equal timestamps, repeated items and repeated rows are
# common.
logs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=40
)


def by_hand(events: list[tuple[int, int, int]], window: int) -> list[tuple[int, int, int, int]]:
    """User, trigger, candidate, and when the candidate was engaged with."""
    histories = defaultdict(list)
    for user, item, moment in events:
        histories[user].append((moment, item))
    pairs = []
    for user, history in histories.items():
        history.sort()
        for number, (moment, candidate) in enumerate(history):
            earlier = history[max(0, number - window) : number]
            pairs += [
                (user, trigger, candidate, moment) for _, trigger in earlier if trigger != candidate
            ]
    return pairs


@given(logs, st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_pairs_are_each_event_with_those_before_it(
    events: list, window: int, random: object
) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)
    connection = ibis.duckdb.connect()
    try:
        user, item, moment = zip(*shuffled, strict=True)
        table = ibis.memtable(pa.table({"user": user, "item": item, "timestamp": moment}))
        mined = connection.to_pyarrow(mine_pairs(table, window)).to_pydict()
    finally:
        connection.disconnect()
    assert list(mined) == ["user", "trigger", "candidate", "timestamp"]
    rows = list(zip(*mined.values(), strict=True))
    assert sorted(rows) == sorted(by_hand(events, window))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)  # one fixed order


def test_soft_sim_is_one_plus_beta_times_the_positive_cosine() -> None:
    content = np.array([[1, 0], [0.6, 0.8], [-1, 0], [0, 0]], np.float32)
    weight = sim_weight(np.array([0, 0, 0, 1]), np.array([1, 2, 3, 1]), "soft", 2.0, content, None)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight, [2.2, 1, 1, 3], rtol=1e-6)


def test_hard_sim_counts_a_shared_topic() -> None:
    bits = np.array([[1, 0], [3, 0], [0, 1], [0, 0]], np.uint64)
    trigger, candidate = np.array([0, 0, 2, 3]), np.array([1, 2, 2, 3])
    weight = sim_weight(trigger, candidate, "hard", 0.5, np.zeros((4, 2), np.float32), bits)
    np.testing.assert_allclose(weight, [1.5, 1, 1.5, 1])


def test_without_sim_all_weigh_the_same_and_hard_without_topics_is_refused() -> None:
    nothing = np.zeros((2, 2), np.float32)
    assert sim_weight(np.array([0]), np.array([1]), "none", 5.0, nothing, None).tolist() == [1]
    with pytest.raises(UserError, match="no l2_topics"):
        sim_weight(np.array([0]), np.array([1]), "hard", 1.0, nothing, None)


def test_sim_weighs_every_one_of_many_pairs() -> None:
    """More pairs than fit into one block."""
    rng = np.random.default_rng(0)
    content = rng.normal(size=(50, 3)).astype(np.float32)
    trigger, candidate = rng.integers(0, 50, (2, 600_000))
    weight = sim_weight(trigger, candidate, "soft", 1.0, content, None)
    expected = 1 + np.maximum((content @ content.T)[trigger, candidate], 0)
    np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_propensity_is_the_root_of_the_share_of_the_most_popular() -> None:
    weight = propensity_weight(np.array([0, 1, 2, 3, 1]), np.array([400, 100, 1, 0]))
    np.testing.assert_allclose(
        weight, [1, 2, 10, 10, 2], rtol=1e-6
    )  # theta 1, 0.5, 0.05 and 0: at least 0.1


def test_a_user_of_many_pairs_has_less_weight_on_each() -> None:
    user, pairs_of = np.array([0, 1, 1, 2], np.int32), np.array([1, 4, 9, 0])
    np.testing.assert_allclose(user_weight(user, pairs_of, 0.0), 1)
    np.testing.assert_allclose(user_weight(user, pairs_of, 0.5), [1, 1 / 2, 1 / 2, 1 / 3])
    weight = user_weight(user, pairs_of, 1.0)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight, [1, 1 / 4, 1 / 4, 1 / 9])


def test_a_pair_halves_its_weight_with_a_share_of_the_events_behind_it() -> None:
    """By events: the long gap between the days 3 and 100 counts as any other."""
    events = np.array([1, 2, 3, 100], "datetime64[D]")
    weight = recency_weight(np.array([100, 3, 1], "datetime64[D]"), events, 0.25)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight, [1, 1 / 2, 1 / 8])
    np.testing.assert_allclose(recency_weight(events, events, None), 1)


def test_the_stage_writes_pairs_of_the_first_period_with_their_weights(
    world: Stages, tmp_path: Path
) -> None:
    settings_ = PairSettings(
        window=3, sim="hard", beta=2.0, propensity=True, user_power=0.5, half_life=0.3
    )
    write_pairs(world.prepared, world.content, tmp_path, settings_)
    data, table = Prepared.load(world.prepared), pq.read_table(tmp_path / "pairs.parquet")
    assert [str(field.type) for field in table.schema] == ["int32", "int32", "int32", "float"]
    moments = data.timestamp.astype(np.int64)
    train = [
        row
        for row, kept in zip(
            zip(data.user, data.item, moments, strict=True), data.is_train, strict=True
        )
        if kept
    ]
    rows = list(
        zip(*(table[name].to_pylist() for name in ("user", "trigger", "candidate")), strict=True)
    )
    by_plain_python = by_hand(train, 3)
    assert sorted(rows) == sorted(row[:3] for row in by_plain_python)
    assert json.loads((tmp_path / "pairs.json").read_text())["pairs"] == len(rows)
    # All four weights multiplied.
    user, trigger, candidate, moment = np.array(by_plain_python).T
    count = np.bincount([item for _, item, _ in train], minlength=data.n_items)
    later = (np.array([at for *_, at in train]) > moment[:, None]).mean(1)
    expected = (
        np.where(SUBJECT[trigger] == SUBJECT[candidate], 3, 1)
        / np.maximum(np.sqrt(count / count.max()), 0.1)[candidate]
        / np.sqrt(np.bincount(user)[user])
        * 0.5 ** (later / 0.3)
    )
    weighed = sorted(zip(user, trigger, candidate, expected, strict=True))
    written = sorted(zip(*table.to_pydict().values(), strict=True))
    np.testing.assert_allclose(written, weighed, rtol=1e-5)


def test_data_without_a_single_pair_is_refused(tmp_path: Path) -> None:
    """Two users with one item each before the split."""
    events = {
        "user": [0, 1],
        "item": [0, 1],
        "user_id": ["a", "b"],
        "timestamp": [1, 2],
        "period": ["train"] * 2,
    }
    pq.write_table(pa.table(events), tmp_path / "interactions.parquet")
    pq.write_table(pa.table({"item_id": ["x", "y"]}), tmp_path / "items.parquet")
    (tmp_path / "prepared.json").write_text(json.dumps({"users": 2, "items": 2}))
    np.save(tmp_path / "content.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(UserError, match="no training pairs: of the 2 events before the split"):
        write_pairs(tmp_path, tmp_path, tmp_path, PairSettings())
    assert not (tmp_path / "pairs.parquet").exists()
