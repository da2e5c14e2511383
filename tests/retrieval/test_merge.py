"""Properties of the quota merge."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.retrieval.merge import ENGAGEMENT, RELEVANCE, offers_passed, quota_merge

ITEMS = 14


@st.composite
def lists(draw: st.DrawFn, disjoint: bool = False, full: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both heads' lists of some requests, distinct within a row, -1 from where a list ends."""
    rows = draw(st.integers(1, 4))
    sides = []
    shortest = 1 if full else 0
    for side, width in enumerate((draw(st.integers(shortest, 12)), draw(st.integers(shortest, 12)))):
        offset = side * ITEMS if disjoint else 0
        table = np.full((rows, width), -1, np.int32)
        for row in range(rows):
            length = width if full else draw(st.integers(0, width))
            table[row, :length] = offset + np.array(draw(st.permutations(range(ITEMS)))[:length], np.int32)
        sides.append(table)
    return sides[0], sides[1]


alphas = st.one_of(st.integers(0, 100), st.floats(0, 100))


@given(lists(), alphas, st.integers(1, 30))
def test_exactly_k_distinct_candidates_whenever_there_are_k(
    both: tuple[np.ndarray, np.ndarray], alpha: float, k: int
) -> None:
    merged = quota_merge(*both, alpha, k)
    assert merged.item.shape == merged.head.shape == merged.rank.shape == (len(both[0]), k)
    assert (merged.item.dtype, merged.head.dtype, merged.rank.dtype) == (np.int32, np.int8, np.int32)
    for row in range(len(merged.item)):
        union = set(both[0][row].tolist()) | set(both[1][row].tolist()) - {-1}
        union.discard(-1)
        found = merged.item[row].tolist()
        n = min(k, len(union))
        assert len(set(found[:n])) == n
        assert set(found[:n]) <= union
        assert found[n:] == [-1] * (k - n)
        assert (merged.head[row, n:] == -1).all()
        assert (merged.rank[row, n:] == -1).all()


@given(lists(), alphas, st.integers(1, 30))
def test_provenance_is_true_and_each_heads_order_is_kept(
    both: tuple[np.ndarray, np.ndarray], alpha: float, k: int
) -> None:
    merged = quota_merge(*both, alpha, k)
    for row in range(len(merged.item)):
        ranks: dict[int, list[int]] = {ENGAGEMENT: [], RELEVANCE: []}
        for item, head, rank in zip(merged.item[row], merged.head[row], merged.rank[row], strict=True):
            if item >= 0:
                assert both[head][row, rank] == item
                ranks[head].append(rank)
        for found in ranks.values():
            assert all(a < b for a, b in pairwise(found))


@given(lists(), alphas, st.integers(1, 30))
def test_the_best_of_each_head_up_to_its_quota_is_always_in(
    both: tuple[np.ndarray, np.ndarray], alpha: float, k: int
) -> None:
    """Shared candidates count for both heads and never cost either a place."""
    merged = quota_merge(*both, alpha, k)
    for head, share in ((ENGAGEMENT, alpha), (RELEVANCE, 100 - alpha)):
        quota = int(share * k / 100 + 1e-9)
        for row in range(len(merged.item)):
            best = both[head][row, :quota]
            assert set(best[best >= 0].tolist()) <= set(merged.item[row].tolist())


@given(lists(disjoint=True, full=True), st.integers(0, 100), st.data())
def test_the_quota_is_exact_where_both_heads_have_enough_of_their_own(
    both: tuple[np.ndarray, np.ndarray], alpha: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(both[0].shape[1], both[1].shape[1])))
    merged = quota_merge(*both, alpha, k)
    assert (
        (merged.head == ENGAGEMENT).sum(axis=1) == int(alpha * k / 100 + 0.5)
    ).all()  # a half goes to the engagement head
    for first in range(1, k + 1):  # and every prefix holds about the same mix
        share = (merged.head[:, :first] == ENGAGEMENT).sum(axis=1)
        assert (np.abs(share - alpha * first / 100) <= 1).all()


@given(lists(), st.integers(1, 30))
def test_the_ends_of_alpha_are_the_heads_alone(both: tuple[np.ndarray, np.ndarray], k: int) -> None:
    """As long as the head has candidates; then the other one back-fills."""
    for alpha, head in ((100, ENGAGEMENT), (0, RELEVANCE)):
        merged = quota_merge(*both, alpha, k)
        for row in range(len(merged.item)):
            own = both[head][row]
            expected = own[own >= 0][:k]
            assert merged.item[row, : len(expected)].tolist() == expected.tolist()
            assert (merged.head[row, : len(expected)] == head).all()


@given(lists(), alphas, st.integers(1, 30))
def test_requests_do_not_touch_each_other(both: tuple[np.ndarray, np.ndarray], alpha: float, k: int) -> None:
    merged = quota_merge(*both, alpha, k)
    for row in range(len(merged.item)):
        alone = quota_merge(both[0][row : row + 1], both[1][row : row + 1], alpha, k)
        assert alone.item[0].tolist() == merged.item[row].tolist()
        assert alone.head[0].tolist() == merged.head[row].tolist()


def test_a_shared_candidate_stays_where_it_is_due_first() -> None:
    merged = quota_merge(np.array([[1, 2, 3, 9]]), np.array([[9, 4, 5, 6]]), 50, 4)
    assert merged.item.tolist() == [[1, 9, 2, 4]]
    assert merged.head.tolist() == [[ENGAGEMENT, RELEVANCE, ENGAGEMENT, RELEVANCE]]
    assert merged.rank.tolist() == [[0, 0, 1, 1]]


def test_no_requests_and_empty_heads() -> None:
    assert quota_merge(np.empty((0, 3), np.int32), np.empty((0, 2), np.int32), 50, 4).item.shape == (0, 4)
    merged = quota_merge(np.empty((1, 0), np.int32), np.array([[5, 6]]), 70, 3)
    assert merged.item.tolist() == [[5, 6, -1]]


@pytest.mark.parametrize(("alpha", "k"), [(-1, 5), (100.1, 5), (float("nan"), 5), (50, 0)])
def test_an_alpha_or_k_out_of_range_is_refused(alpha: float, k: int) -> None:
    with pytest.raises(ValueError, match=r"alpha must be 0\.\.100 and k at least 1"):
        quota_merge(np.array([[1]]), np.array([[2]]), alpha, k)


@given(lists(), alphas, st.integers(1, 30))
def test_what_was_passed_is_told_by_the_last_one_taken(
    both: tuple[np.ndarray, np.ndarray], alpha: float, k: int
) -> None:
    merged = quota_merge(*both, alpha, k)
    shares = [alpha / 100, 1 - alpha / 100]
    for row, own in enumerate(zip(*both, strict=True)):
        full = [each[each >= 0].tolist() for each in own]
        taken = int((merged.head[row] >= 0).sum())
        due = sorted(
            ((rank + 0.5) / max(shares[head], 1e-9), head, item)
            for head in (ENGAGEMENT, RELEVANCE)
            for rank, item in enumerate(full[head])
        )
        passed, found = [0, 0], set()
        while len(found) < taken:
            _, head, item = due.pop(0)
            passed[head] += 1
            found.add(item)
        if taken:
            last = int(merged.head[row, taken - 1]), int(merged.rank[row, taken - 1])
            told = offers_passed(*last, alpha, (len(full[0]), len(full[1])))
            assert told[last[0]] == passed[last[0]]
            assert abs(told[1 - last[0]] - passed[1 - last[0]]) <= 1  # two that are due at once
