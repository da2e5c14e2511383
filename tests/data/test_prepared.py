"""Histories, targets and topic bits against plain Python."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.data.prepared import Prepared
from mtmh.errors import UserError

N_USERS, N_ITEMS = 5, 7
events = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=2, max_size=60
)


def prepared(
    pairs: list[tuple[int, int]], train: int, topics: list[list[str]] | None = None
) -> Prepared:
    user, item = np.array(pairs, np.int32).T
    column = pa.array(topics or [[]] * N_ITEMS, pa.list_(pa.string()))
    return Prepared(
        path=Path(),
        info={},
        user=user,
        item=item,
        timestamp=np.arange(len(pairs)).astype("datetime64[us]"),
        is_train=np.arange(len(pairs)) < train,
        n_users=N_USERS,
        n_items=N_ITEMS,
        items=pa.table({"l1_topics": column, "l2_topics": column}),
    )


@given(events, st.data())
def test_histories_are_distinct_items_newest_first(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    train = data.draw(st.integers(1, len(pairs) - 1))
    indptr, items = prepared(pairs, train).train_histories()
    assert indptr.dtype == np.int64
    assert items.dtype == np.int32
    for user in range(N_USERS):
        newest_first = [item for u, item in reversed(pairs[:train]) if u == user]
        assert items[indptr[user] : indptr[user + 1]].tolist() == list(dict.fromkeys(newest_first))


def test_concepts_know_the_rows_of_their_items(tmp_path: Path) -> None:
    one = replace(
        prepared([(0, 1), (1, 2)], 1), path=tmp_path, items=pa.table({"item_id": ["a", "b", "c"]})
    )
    assert one.concepts().num_rows == 0
    columns = {
        "item_id": ["c", "a"],
        "concept": ["x", "y"],
        "source": ["tag", "query"],
        "weight": [1.0, 2.5],
    }
    pq.write_table(pa.table(columns), tmp_path / "concepts.parquet")
    assert one.concepts().to_pylist() == [
        {"item": 2, "concept": "x", "source": "tag", "weight": 1.0},
        {"item": 0, "concept": "y", "source": "query", "weight": 2.5},
    ]


@given(events, st.data())
def test_targets_are_new_items_of_known_users(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    train = data.draw(st.integers(1, len(pairs) - 1))
    users, (indptr, items) = prepared(pairs, train).targets()
    expected = {}
    for user in range(N_USERS):
        before = {item for u, item in pairs[:train] if u == user}
        after = {item for u, item in pairs[train:] if u == user} - before
        if before and after:
            expected[user] = sorted(after)
    assert users.tolist() == list(expected)
    assert len(indptr) == len(users) + 1
    assert [items[a:b].tolist() for a, b in pairwise(indptr)] == list(expected.values())


@given(st.lists(st.lists(st.integers(0, 140), max_size=4), min_size=N_ITEMS, max_size=N_ITEMS))
def test_items_share_a_bit_exactly_when_they_share_a_topic(numbers: list[list[int]]) -> None:
    # a shift of 64 bits and more must reach the next word: item 0 has 140 topics of its own
    topics = [[f"t{n}" for n in row] for row in [[*numbers[0], *range(200, 340)], *numbers[1:]]]
    table = prepared([(0, 0), (0, 1)], 1, topics)
    bits = table.topic_bits("l2")
    assert bits is not None
    assert bits.dtype == np.uint64
    assert bits.shape == (N_ITEMS, -(-len(table.topic_names("l2")) // 64))
    for a in range(N_ITEMS):
        for b in range(N_ITEMS):
            assert bool((bits[a] & bits[b]).any()) == bool(set(topics[a]) & set(topics[b]))


def test_without_topics_there_are_no_bits() -> None:
    assert prepared([(0, 0), (0, 1)], 1).topic_bits("l1") is None


def test_an_item_is_born_with_its_creation_or_first_engagement() -> None:
    """The earlier of the two, where both are there; an item of neither was never born."""
    at = np.array([10, 20, 30, 40]).astype("datetime64[us]")
    created = pa.array([5, 25, None, None, 35, None, None], pa.timestamp("us", tz="UTC"))
    log = replace(
        prepared([(0, 0), (1, 1), (0, 2), (1, 0)], 2),
        timestamp=at,
        items=pa.table({"created_at": created}),
    )
    assert log.born().tolist() == [moment if moment is None else datetime(1970, 1, 1, microsecond=moment)
                                   for moment in (5, 20, 30, None, 35, None, None)]  # fmt: skip


def test_a_directory_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepared\.json"):
        Prepared.load(tmp_path)
