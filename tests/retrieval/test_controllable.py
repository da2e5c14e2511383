"""The controllable merge: exact numbers of slots, spill, and what the exponent does."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.ragged import Ragged
from mtmh.retrieval.controllable import intent, merge_clusters, slots

K = 5
intents = st.lists(st.floats(0.001, 1), min_size=K, max_size=K)
room = st.lists(st.integers(0, 60), min_size=K, max_size=K)
exponents = st.sampled_from([0.0, 0.5, 1.0, 2.0, 16.0, 400.0])
PLENTY = np.full((1, K), 10_000)


def reference(p: list[int], total: int, exponent: int) -> list[int]:
    """M_k = M p_k^a / sum p^a by largest remainders, in exact fractions, without a limit."""
    powers = [Fraction(x) ** exponent for x in p]
    shares = [total * power / sum(powers) for power in powers]
    given = [int(share) for share in shares]
    by_remainder = sorted(range(len(p)), key=lambda k: (given[k] - shares[k], k))
    for k in by_remainder[: total - sum(given)]:
        given[k] += 1
    return given


@given(intents, room, st.integers(0, 200), exponents)
def test_slots_are_exactly_what_there_is_to_fill(
    p: list[float], available: list[int], total: int, exponent: float
) -> None:
    given_slots = slots(np.array([p]), total, exponent, np.array([available]))[0]
    assert given_slots.sum() == min(total, sum(available))
    assert (given_slots >= 0).all()
    assert (given_slots <= available).all()


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=7),
    st.integers(0, 500),
    st.sampled_from([0, 1, 2, 3]),
)
def test_slots_equal_the_equation(p: list[int], total: int, exponent: int) -> None:
    ours = slots(np.array([p]) / sum(p), total, exponent, np.full((1, len(p)), total))[0]
    exact = reference(p, total, exponent)
    # Only remainders that are equal but for rounding may fall to another cluster, by one slot.
    assert np.abs(ours - exact).max() <= 1
    shares = np.array(p, float) ** exponent
    assert np.abs(ours - total * shares / shares.sum()).max() < 1 + 1e-9


def test_slots_of_an_example() -> None:
    p = np.array([[0.5, 0.3, 0.2]])
    assert slots(p, 7, 1, np.full((1, 3), 99)).tolist() == [[4, 2, 1]]  # 3.5, 2.1, 1.4
    assert slots(p, 7, 2, np.full((1, 3), 99)).tolist() == [[4, 2, 1]]  # 4.61, 1.66, 0.74
    assert slots(p, 7, 3, np.full((1, 3), 99)).tolist() == [[6, 1, 0]]  # 5.47, 1.18, 0.35


@given(intents, st.integers(0, 100))
def test_without_an_exponent_quotas_are_equal(p: list[float], total: int) -> None:
    given_slots = slots(np.array([[0.0, *p[1:]]]), total, 0.0, PLENTY)[0]
    assert given_slots.max() - given_slots.min() <= 1


@given(st.permutations([0.1, 0.15, 0.2, 0.25, 0.3]), st.integers(1, 100))
def test_a_large_exponent_is_the_top_cluster_only(p: list[float], total: int) -> None:
    given_slots = slots(np.array([p]), total, 400.0, PLENTY)[0]
    assert given_slots[np.argmax(p)] == total


def test_an_exhausted_cluster_spills_to_the_others_by_their_weights() -> None:
    p = np.array([[0.6, 0.3, 0.1]])
    # 12 slots: 7.2, 3.6, 1.2; the first has 4 only, and its other 3 go 3 : 1.
    assert slots(p, 12, 1, np.array([[4, 99, 99]])).tolist() == [[4, 6, 2]]
    # The top one alone at a large exponent: what it lacks goes to the second, not to all.
    assert slots(p, 12, 400, np.array([[4, 99, 99]])).tolist() == [[4, 8, 0]]
    # An impossible cluster is filled when nothing else is left.
    assert slots(np.array([[1.0, 0.0]]), 5, 1, np.array([[2, 9]])).tolist() == [[2, 3]]


@given(intents, st.lists(room, min_size=1, max_size=4), exponents)
def test_rows_do_not_depend_on_each_other(
    p: list[float], available: list[list[int]], exponent: float
) -> None:
    together = slots(np.array([p] * len(available)), 50, exponent, np.array(available))
    for row, alone in zip(together, available, strict=True):
        assert (row == slots(np.array([p]), 50, exponent, np.array([alone]))[0]).all()


@pytest.mark.parametrize(
    ("p", "total", "a"), [(-0.1, 5, 1.0), (np.nan, 5, 1.0), (1, -1, 1), (1, 1, -1)]
)
def test_what_is_out_of_range_is_refused(p: float, total: int, a: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        slots(np.array([[p]]), total, a, np.array([[9]]))


@given(intents, st.lists(st.integers(0, 9), min_size=K, max_size=K), st.integers(1, 30), exponents)
def test_a_merged_list_holds_each_clusters_first(
    p: list[float], lengths: list[int], total: int, exponent: float
) -> None:
    lists = [np.full((1, 9), -1, np.int32) for _ in range(K)]
    for cluster, length in enumerate(lengths):
        lists[cluster][0, :length] = 100 * cluster + np.arange(length)
    given_slots = slots(np.array([p]), total, exponent, np.array([lengths]))
    item, cluster, rank = (column[0] for column in merge_clusters(lists, given_slots))
    assert len(item) == min(total, sum(lengths))
    expected = [100 * k + i for k in range(K) for i in range(given_slots[0, k])]
    assert sorted(item.tolist()) == expected
    assert (item == 100 * cluster + rank).all()
    for k in range(K):  # a cluster's own order stays
        assert (np.diff(rank[cluster == k]) == 1).all()


def test_turns_divide_every_beginning_as_the_whole() -> None:
    lists = [np.arange(6, dtype=np.int32)[None], np.arange(10, 13, dtype=np.int32)[None]]
    item, cluster, _ = merge_clusters(lists, np.array([[4, 2]]))
    assert cluster.tolist() == [[0, 1, 0, 0, 1, 0]]
    assert item.tolist() == [[0, 10, 1, 2, 11, 3]]


def test_intent_is_the_smoothed_share_of_the_history() -> None:
    of_item, prior = np.array([0, 0, 1, 2]), np.array([0.5, 0.25, 0.25])
    p = intent(Ragged.of([[0, 1, 2], []]), of_item, prior, strength=2.0)
    assert p[0] == pytest.approx([(2 + 1) / 5, (1 + 0.5) / 5, 0.5 / 5])
    assert p[1] == pytest.approx(prior)
    with pytest.raises(ValueError, match="strength"):
        intent(Ragged.of([[0]]), of_item, prior, strength=0.0)
