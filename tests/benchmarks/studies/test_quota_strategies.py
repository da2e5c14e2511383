"""Quotas found in other ways: turns, the cross-entropy method, an alpha a request."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.studies.quota_strategies import (
    AlphaRegression,
    AlphaTable,
    cross_entropy_quotas,
    merge_each,
    request_features,
    snake_merge,
)
from mtmh.ragged import Ragged
from mtmh.retrieval.merge import quotas_at
from mtmh.retrieval.retriever import Pool, merge_pools

lists = st.lists(st.permutations(range(12)).map(lambda items: items[:8]), min_size=1, max_size=4)


def pool(items: list[list[int]], channel: int = 0) -> Pool:
    item = np.array(items, np.int32)
    score = np.where(item >= 0, -np.arange(item.shape[1], dtype=np.float32), -np.inf)
    trigger = np.where(item >= 0, item + 100, -1).astype(np.int32)
    return Pool(item, score.astype(np.float32), trigger, np.where(item >= 0, channel, -1))


def test_the_order_of_the_turns_is_reversed_every_round() -> None:
    tables = [np.array([[1, 2, 3, 4]]), np.array([[11, 2, 12, 13]])]
    merged = snake_merge(tables, 7)
    # 2 is channel 1's when its second turn comes; channel 0 gives 3 then.
    assert merged.item.tolist() == [[1, 11, 2, 3, 4, 12, 13]]
    assert merged.channel.tolist() == [[0, 1, 1, 0, 0, 1, 1]]
    assert merged.rank.tolist() == [[0, 0, 1, 2, 3, 2, 3]]


@given(lists, st.integers(1, 20))
def test_turns_share_what_is_taken_and_lose_nothing(ids: list[list[int]], k: int) -> None:
    tables = [np.array([row], np.int32) for row in ids]
    merged = snake_merge(tables, k)
    union = {item for row in ids for item in row}
    items = [item for item in merged.item[0].tolist() if item >= 0]
    assert len(items) == len(set(items)) == min(k, len(union))
    for item, channel, rank in zip(items, merged.channel[0], merged.rank[0], strict=False):
        assert tables[channel][0, rank] == item
    # As long as no list has ended, no channel is more than a candidate ahead.
    if k <= 2 * len(ids):
        counts = np.bincount(merged.channel[0][: len(items)], minlength=len(ids))
        assert counts.max() - counts.min() <= 1


def test_a_list_that_ends_passes_its_turns() -> None:
    merged = snake_merge([np.array([[1, -1, -1]]), np.array([[2, 3, 4]])], 5)
    assert merged.item.tolist() == [[1, 2, 3, 4, -1]]


def test_cross_entropy_finds_the_best_quotas_and_asks_once_for_each() -> None:
    asked_for: list[tuple[float, ...]] = []

    def score(quotas: tuple[float, ...]) -> float:
        asked_for.append(quotas)
        return -sum((q - t) ** 2 for q, t in zip(quotas, (70, 20, 10), strict=True))

    quotas = cross_entropy_quotas(score, 3, seed=0)
    assert np.abs(np.subtract(quotas, (70, 20, 10))).max() <= 2
    assert sum(quotas) == 100
    assert len(asked_for) == len(set(asked_for))
    assert cross_entropy_quotas(score, 3, seed=0) == quotas
    assert cross_entropy_quotas(lambda q: -abs(q[0] - 62), 2, seed=1) == (62, 38)


def test_each_user_is_merged_by_its_own_quotas() -> None:
    pools = [pool([[1, 2, 3], [4, 5, 6], [1, 5, 9]]), pool([[7, 8, 9], [7, 8, -1], [2, 1, 4]], 1)]
    alphas = [100, 30, 100]
    quotas = np.array([quotas_at(alpha) for alpha in alphas])
    merged = merge_each(pools, quotas, 3)
    for user, alpha in enumerate(alphas):
        alone = merge_pools(pools, quotas_at(alpha), 3)
        for name in ("item", "score", "trigger", "channel"):
            expected = getattr(alone, name)[user].tolist()
            assert getattr(merged, name)[user].tolist() == expected


def test_features_of_requests_by_hand() -> None:
    content = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], np.float32)
    triggers, seen = Ragged.of([[0], [0, 1, 3]]), Ragged.of([[0, 1], [0, 1, 3]])
    popularity = np.array([9, 0, 3, 4])
    pools = [pool([[1, 2], [2, -1]]), pool([[2, 3], [1, -1]], 1)]
    events, popular, focus, agreement = request_features(
        triggers, seen, popularity, content, pools
    ).T
    assert events == pytest.approx(np.log([3, 4]))
    assert popular == pytest.approx([np.log(10), np.log([10, 1, 5]).mean()])
    assert focus == pytest.approx([1.0, (0 + 0.6 + 0.8) / 3])
    assert agreement == pytest.approx([0.5, 0.0])


def test_a_table_has_the_best_alpha_of_each_cell_unless_it_holds_too_few() -> None:
    alphas = np.array([0, 50, 100])
    # Cell 0: 50 users best at 50; cell 1: 50 best at 0; cell 2: one best at 100; cell 3: empty.
    recall = np.array([[0, 1, 0]] * 50 + [[0.9, 0.5, 0]] * 50 + [[0, 0, 1]], float)
    cell = np.array([0] * 50 + [1] * 50 + [2])
    table = AlphaTable.fit(cell, recall, alphas, 4, strength=5)
    assert table.alpha.tolist() == [50, 0, 50, 50]
    assert AlphaTable.fit(cell, recall, alphas, 4, strength=0.1).alpha.tolist() == [50, 0, 100, 50]
    assert table.of(np.array([1, 0])).tolist() == [0, 50]


def test_a_regression_gives_more_to_the_head_that_such_requests_found_by() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 2))
    is_engagement = rng.random(4000) < 1 / (1 + np.exp(-2 * features[:, 0]))
    regression = AlphaRegression.fit(features, is_engagement * 1.0, ~is_engagement * 1.0, 70)
    alphas = regression.of(features)
    assert alphas.mean() == pytest.approx(70)
    assert regression.weights == pytest.approx([2, 0], abs=0.2)
    by_feature = alphas[np.argsort(features[:, 0])]
    assert by_feature[:400].mean() < 40 < 90 < by_feature[-400:].mean()
    assert all(0 <= a <= 100 for a in alphas)
    # Where the heads never differ, everybody has the mean.
    same = AlphaRegression.fit(features, np.ones(4000), np.ones(4000), 40)
    assert same.of(features) == pytest.approx(np.full(4000, 40))


def test_the_turns_of_equal_lists_are_one_list() -> None:
    ids = np.arange(6, dtype=np.int32)[None]
    merged = snake_merge([ids, ids], 6)
    assert merged.item.tolist() == ids.tolist()
    assert all(a <= b for a, b in pairwise(merged.rank[0]))
