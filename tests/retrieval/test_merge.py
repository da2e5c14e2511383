"""Properties of the quota merge, of one to five channels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.heads import HEADS
from mtmh.retrieval.merge import Merged, offers_passed, quota_merge, quotas_at

ITEMS = 14
Lists = list[np.ndarray]


@st.composite
def lists(
    draw: st.DrawFn, disjoint: bool = False, full: bool = False, channels: int | None = None
) -> Lists:
    """The channels' lists of some requests, distinct within a row, -1 from where a list ends."""
    rows = draw(st.integers(1, 4))
    tables = []
    for number in range(channels or draw(st.integers(1, 5))):
        width = draw(st.integers(int(full), 12))
        table = np.full((rows, width), -1, np.int32)
        for row in range(rows):
            length = width if full else draw(st.integers(0, width))
            items = np.array(draw(st.permutations(range(ITEMS)))[:length], np.int32)
            table[row, :length] = items + number * ITEMS * disjoint
        tables.append(table)
    return tables


@st.composite
def quotas_of(draw: st.DrawFn, channels: int) -> list[float]:
    """Percent, 100 in all; some channels may have none."""
    ends = st.one_of(st.integers(0, 100), st.floats(0, 100))
    cuts = sorted(draw(st.lists(ends, min_size=channels - 1, max_size=channels - 1)))
    return [end - start for start, end in pairwise([0, *cuts, 100])]


two = lists(channels=2)
alphas = st.one_of(st.integers(0, 100), st.floats(0, 100))
requests = lists().flatmap(
    lambda tables: st.tuples(st.just(tables), quotas_of(len(tables)), st.integers(1, 30))
)


@given(requests)
def test_exactly_k_distinct_candidates_whenever_there_are_k(
    request_: tuple[Lists, list[float], int],
) -> None:
    tables, quotas, k = request_
    merged = quota_merge(tables, quotas, k)
    assert merged.item.shape == merged.channel.shape == merged.rank.shape == (len(tables[0]), k)
    assert (merged.item.dtype, merged.channel.dtype, merged.rank.dtype) == (
        np.int32,
        np.int8,
        np.int32,
    )
    for row in range(len(merged.item)):
        union = {item for table in tables for item in table[row].tolist()} - {-1}
        items = merged.item[row].tolist()
        n = min(k, len(union))
        assert len(set(items[:n])) == n
        assert set(items[:n]) <= union
        assert items[n:] == [-1] * (k - n)
        assert (merged.channel[row, n:] == -1).all()
        assert (merged.rank[row, n:] == -1).all()


@given(requests)
def test_provenance_is_true_and_each_channels_order_stays(
    request_: tuple[Lists, list[float], int],
) -> None:
    tables, quotas, k = request_
    merged = quota_merge(tables, quotas, k)
    for row in range(len(merged.item)):
        ranks: dict[int, list[int]] = {number: [] for number in range(len(tables))}
        for item, channel, rank in zip(
            merged.item[row], merged.channel[row], merged.rank[row], strict=True
        ):
            if item >= 0:
                assert tables[channel][row, rank] == item
                ranks[channel].append(rank)
        for of_channel in ranks.values():
            assert all(a < b for a, b in pairwise(of_channel))
    np.testing.assert_array_equal(merged.take(tables, -1), merged.item)
    of_channel = merged.take(
        [np.full(table.shape, number) for number, table in enumerate(tables)], -7
    )
    np.testing.assert_array_equal(of_channel, np.where(merged.item >= 0, merged.channel, -7))


@given(requests)
def test_the_best_of_each_channel_up_to_its_quota_is_always_in(
    request_: tuple[Lists, list[float], int],
) -> None:
    """Shared candidates count for all channels and never cost any a place."""
    tables, quotas, k = request_
    merged = quota_merge(tables, quotas, k)
    for table, quota in zip(tables, quotas, strict=True):
        share = quota / 100
        sure = int(np.ceil(share * k - 1 / 2 - share * (len(tables) - 2) / 2 - 1e-6))
        for row in range(len(merged.item)):
            best = table[row, : max(sure, 0)]
            assert set(best[best >= 0].tolist()) <= set(merged.item[row].tolist())


@given(two, alphas, st.integers(1, 30))
def test_of_two_heads_the_whole_quota_is_always_in(both: Lists, alpha: float, k: int) -> None:
    merged = quota_merge(both, quotas_at(alpha), k)
    for table, share in zip(both, (alpha, 100 - alpha), strict=True):
        quota = int(share * k / 100 + 1e-9)
        for row in range(len(merged.item)):
            best = table[row, :quota]
            assert set(best[best >= 0].tolist()) <= set(merged.item[row].tolist())


@given(lists(disjoint=True, full=True), st.data())
def test_the_quota_is_exact_where_all_channels_have_enough_of_their_own(
    tables: Lists, data: st.DataObject
) -> None:
    """Every prefix holds about the same mix."""
    n, quotas = len(tables), data.draw(quotas_of(len(tables)))
    k = data.draw(st.integers(1, min(table.shape[1] for table in tables)))
    merged = quota_merge(tables, quotas, k)
    for number, quota in enumerate(quotas):
        taken, due = np.cumsum(merged.channel == number, axis=1), quota / 100 * np.arange(1, k + 1)
        assert (np.abs(taken - due) <= 1 / 2 + quota / 100 * max(n - 2, 0) / 2 + 1e-6).all()


@given(lists(disjoint=True, full=True, channels=2), st.integers(0, 100), st.data())
def test_half_a_candidate_goes_to_the_engagement_head(
    both: Lists, alpha: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(both[0].shape[1], both[1].shape[1])))
    merged = quota_merge(both, quotas_at(alpha), k)
    assert ((merged.channel == 0).sum(axis=1) == int(alpha * k / 100 + 0.5)).all()


@given(lists(), st.data(), st.integers(1, 30))
def test_a_channel_with_all_of_the_quota_is_alone(
    tables: Lists, data: st.DataObject, k: int
) -> None:
    """As long as it has candidates; then the others back-fill."""
    number = data.draw(st.integers(0, len(tables) - 1))
    merged = quota_merge(tables, [100 * (other == number) for other in range(len(tables))], k)
    for row in range(len(merged.item)):
        alone = tables[number][row]
        expected = alone[alone >= 0][:k]
        assert merged.item[row, : len(expected)].tolist() == expected.tolist()
        assert (merged.channel[row, : len(expected)] == number).all()


@given(requests)
def test_requests_do_not_touch_each_other(request_: tuple[Lists, list[float], int]) -> None:
    tables, quotas, k = request_
    merged = quota_merge(tables, quotas, k)
    for row in range(len(merged.item)):
        alone = quota_merge([table[row : row + 1] for table in tables], quotas, k)
        assert alone.item[0].tolist() == merged.item[row].tolist()
        assert alone.channel[0].tolist() == merged.channel[row].tolist()


def test_a_shared_candidate_stays_where_it_is_due_first() -> None:
    merged = quota_merge([np.array([[1, 2, 3, 9]]), np.array([[9, 4, 5, 6]])], [50, 50], 4)
    assert merged.item.tolist() == [[1, 9, 2, 4]]
    assert merged.channel.tolist() == [[0, 1, 0, 1]]
    assert merged.rank.tolist() == [[0, 0, 1, 1]]


def test_three_channels_take_turns() -> None:
    tables = [np.array([[1, 2, 3, 4]]), np.array([[11, 2, 12]]), np.array([[21, 22]])]
    merged = quota_merge(tables, [50, 25, 25], 6)
    assert merged.item.tolist() == [[1, 11, 21, 2, 3, 22]]  # 2 is due in channel 0 first
    assert merged.channel.tolist() == [[0, 1, 2, 0, 0, 2]]


def test_no_requests_and_empty_channels() -> None:
    assert quota_merge(
        [np.empty((0, 3), np.int32), np.empty((0, 2), np.int32)], [50, 50], 4
    ).item.shape == (0, 4)
    merged = quota_merge([np.empty((1, 0), np.int32), np.array([[5, 6]])], [70, 30], 3)
    assert merged.item.tolist() == [[5, 6, -1]]
    nothing = quota_merge([np.empty((1, 0), np.int32)], [100], 2)
    assert nothing.take([np.empty((1, 0), np.float32)], 0.5).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("quotas", "k"),
    [([-1, 101], 5), ([100.1, 0], 5), ([float("nan"), 50], 5), ([60, 50], 5), ([50, 50], 0)],
)
def test_quotas_or_k_out_of_range_are_refused(quotas: list[float], k: int) -> None:
    with pytest.raises(ValueError, match=r"quotas must be 0\.\.100, 100 in all, and k at least 1"):
        quota_merge([np.array([[1]]), np.array([[2]])], quotas, k)


def test_alpha_is_the_engagement_heads_share() -> None:
    assert quotas_at(30) == (30, 70)
    assert quotas_at(30, ["relevance"]) == quotas_at(30, ["engagement"]) == (100,)
    assert quotas_at(40, [*HEADS, "newest", "search"]) == (40, 20, 20, 20)


def test_other_channels_share_what_alpha_leaves_as_their_own_quotas_are() -> None:
    three = [*HEADS, "subject"]
    assert quotas_at(40, three, (40, 45, 15)) == (40, 45, 15)
    assert quotas_at(20, three, (40, 45, 15)) == (20, 60, 20)
    assert quotas_at(100, three, (40, 45, 15)) == (100, 0, 0)
    assert quotas_at(50, three, (100, 0, 0)) == (50, 25, 25)
    # Two are what they were, whatever their own; without the engagement head alpha says nothing.
    assert all(quotas_at(alpha, HEADS, (10, 90)) == quotas_at(alpha) for alpha in range(101))
    assert quotas_at(30, ["relevance", "subject"], (80, 20)) == (80, 20)


@given(requests)
def test_what_was_passed_follows_from_the_last_one_taken(
    request_: tuple[Lists, list[float], int],
) -> None:
    tables, quotas, k = request_
    merged = quota_merge(tables, quotas, k)
    for row in range(len(merged.item)):
        whole = [table[row][table[row] >= 0].tolist() for table in tables]
        if taken := int((merged.channel[row] >= 0).sum()):
            last = int(merged.channel[row, taken - 1]), int(merged.rank[row, taken - 1])
            passed = passed_by_hand(whole, quotas, taken)
            offers = offers_passed(*last, quotas, [len(items) for items in whole])
            assert offers[last[0]] == passed[last[0]]
            assert np.abs(np.subtract(offers, passed)).max() <= 1  # several that are due at once


def passed_by_hand(whole: list[list[int]], quotas: list[float], taken: int) -> list[int]:
    """How many of each channel's candidates were looked at until `taken` distinct ones were
    there.
    """
    due = sorted(
        ((rank + 0.5) / max(quotas[channel] / 100, 1e-9), channel, item)
        for channel, items in enumerate(whole)
        for rank, item in enumerate(items)
    )
    passed, distinct = [0] * len(whole), set[int]()
    while len(distinct) < taken:
        _, channel, item = due.pop(0)
        passed[channel] += 1
        distinct.add(item)
    return passed


def test_taking_reads_each_channels_own_values() -> None:
    merged = Merged(np.array([[5, 7, -1]]), np.array([[1, 0, -1]], np.int8), np.array([[0, 1, -1]]))
    assert merged.take([np.array([[0.1, 0.2]]), np.array([[0.3]])], -1.0).tolist() == [
        [0.3, 0.2, -1.0]
    ]
