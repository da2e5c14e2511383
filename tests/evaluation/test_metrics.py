"""Metrics against plain Python."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.evaluation.metrics import (
    coverage,
    intra_list_diversity,
    recall_at,
    recall_of,
    share_of,
    topic_matches,
)

N_ITEMS, POOL = 12, 6


@st.composite
def pools(draw: st.DrawFn) -> np.ndarray:
    """Lists of up to POOL distinct items, -1 where they end."""
    table = np.full((draw(st.integers(1, 5)), POOL), -1, np.int32)
    for row in table:
        length = draw(st.integers(0, POOL))
        row[:length] = draw(st.permutations(range(N_ITEMS)))[:length]
    return table


@given(pools(), st.data())
def test_recall_is_the_share_of_targets_among_the_first(
    item: np.ndarray, data: st.DataObject
) -> None:
    targets = [
        sorted(data.draw(st.sets(st.integers(0, N_ITEMS + 3), min_size=1, max_size=5)))
        for _ in item
    ]
    indptr, flat = (
        np.cumsum([0, *map(len, targets)]),
        np.array([t for row in targets for t in row], np.int32),
    )
    found = recall_at(item, indptr, flat, (1, 3, POOL, 100))
    for row, wanted in enumerate(targets):
        for column, cutoff in enumerate((1, 3, POOL, 100)):
            hits = [i for i in item[row, :cutoff].tolist() if i in wanted]
            assert found[row, column] == pytest.approx(len(hits) / len(wanted))


@pytest.mark.parametrize("topics", [3, 64, 130])
@given(item=pools(), seed=st.integers(0, 99))
def test_a_match_is_a_shared_topic(topics: int, item: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = [set(rng.integers(0, topics, rng.integers(0, 3)).tolist()) for _ in range(N_ITEMS)]
    bits = np.zeros((N_ITEMS, -(-topics // 64)), np.uint64)
    for number, numbers in enumerate(own):
        for topic in numbers:
            bits[number, topic // 64] |= np.uint64(1) << np.uint64(topic % 64)
    trigger = np.where(item >= 0, rng.integers(0, N_ITEMS, item.shape), -1).astype(np.int32)
    expected = [
        sum(bool(own[i] & own[t]) for i, t in zip(row, source, strict=True) if i >= 0)
        for row, source in zip(item, trigger, strict=True)
    ]
    assert topic_matches(item, trigger, bits).tolist() == expected


@given(pools(), st.integers(0, 99))
def test_coverage_and_share_count_items(item: np.ndarray, seed: int) -> None:
    chosen = np.random.default_rng(seed).random(N_ITEMS) < 0.4
    every = [i for i in item.ravel().tolist() if i >= 0]
    assert coverage(item, N_ITEMS) == len(set(every)) / N_ITEMS
    assert share_of(item, chosen) == pytest.approx(sum(chosen[every]) / len(every) if every else 0)


@given(pools(), st.integers(0, 99), st.data())
def test_recall_of_some_items_looks_at_no_other_target(
    item: np.ndarray, seed: int, data: st.DataObject
) -> None:
    targets = [
        sorted(data.draw(st.sets(st.integers(0, N_ITEMS - 1), min_size=1, max_size=5)))
        for _ in item
    ]
    indptr, flat = (
        np.cumsum([0, *map(len, targets)]),
        np.array([t for row in targets for t in row], np.int32),
    )
    chosen = np.random.default_rng(seed).random(N_ITEMS) < 0.4
    found = recall_of(item, indptr, flat, chosen, 4)
    for row, (offered, wanted) in enumerate(zip(item.tolist(), targets, strict=True)):
        few = {target for target in wanted if chosen[target]}
        expected = len(few & set(offered[:4])) / len(few) if few else np.nan
        assert found[row] == pytest.approx(expected, nan_ok=True)


@given(pools(), st.integers(0, 99))
def test_diversity_is_the_mean_distance_of_two(item: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(N_ITEMS, 4)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    content[rng.random(N_ITEMS) < 0.3] = 0  # items without text
    expected = []
    for row in item.tolist():
        known = [i for i in row if i >= 0 and content[i].any()]
        if len(known) >= 2:
            expected.append(
                np.mean([1 - float(content[a] @ content[b]) for a, b in combinations(known, 2)])
            )
    found = intra_list_diversity(item, content)
    assert found == (pytest.approx(np.mean(expected), abs=1e-5) if expected else None)


def test_diversity_of_more_users_than_a_block() -> None:
    content = np.eye(N_ITEMS, 5, dtype=np.float32)
    item = np.tile(np.array([0, 1, 2, -1], np.int32), (1200, 1))
    assert intra_list_diversity(item, content) == pytest.approx(1)
