"""Pooling against plain Python: sum the votes for each item, sort."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import pool_users
from mtmh.retrieval.scoring import Pooling, softmax_over_list

N_ITEMS, DEPTH = 10, 5
scores = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])  # few, so that ties are common
offers = st.dictionaries(st.integers(0, N_ITEMS - 1), scores, max_size=DEPTH)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    triggers = draw(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=6, unique=True))
    lists = {t: sorted(draw(offers).items(), key=lambda offer: -offer[1]) for t in triggers}
    some = st.lists(st.sampled_from(triggers), max_size=5, unique=True)
    users = draw(
        st.lists(st.tuples(some, st.sets(st.integers(0, N_ITEMS - 1), max_size=6)), max_size=6)
    )
    return {"lists": lists, "users": users, "size": draw(st.integers(1, 12))}


def by_hand(
    lists: dict, triggers: list[int], seen: set[int], size: int
) -> list[tuple[int, float, int]]:
    """Most votes first, equal ones in the order in which they were named; a vote is twice the
    score, plus three.
    """
    total: dict[int, float] = {}
    nearest: dict[int, tuple[float, int]] = {}
    for trigger in triggers:
        for item, score in lists[trigger]:
            if item not in seen:
                total[item] = total.get(item, 0) + vote(score)
                if item not in nearest or score > nearest[item][0]:
                    nearest[item] = score, trigger
    ranked = sorted(total, key=lambda item: -total[item])
    return [(item, total[item], nearest[item][1]) for item in ranked][:size]


def vote(score: Any) -> Any:
    return 2 * score + 3


@given(requests())
def test_pools_are_ranked_by_the_votes_of_all_triggers(request_: dict[str, Any]) -> None:
    lists, users, size = request_["lists"], request_["users"], request_["size"]
    list_of = np.full(N_ITEMS, -1, np.int64)
    ids, values = (
        np.full((len(lists), DEPTH), -1, np.int32),
        np.full((len(lists), DEPTH), -np.inf, np.float32),
    )
    for row, (trigger, found) in enumerate(lists.items()):
        list_of[trigger] = row
        for rank, (item, score) in enumerate(found):
            ids[row, rank], values[row, rank] = item, score
    triggers, seen = [u[0] for u in users], [sorted(u[1]) for u in users]
    owned, hidden = Ragged.of(triggers), Ragged.of(seen)
    item, score, source = pool_users(owned, hidden, list_of, ids, values, vote(values), size)
    assert item.shape == score.shape == source.shape == (len(users), size)
    for row, (own, known) in enumerate(users):
        expected = by_hand(lists, own, known, size)
        n = len(expected)
        assert list(zip(item[row, :n], score[row, :n], source[row, :n], strict=True)) == expected
        assert (item[row, n:] == -1).all()
        assert (source[row, n:] == -1).all()
        assert np.isneginf(score[row, n:]).all()


def test_many_users_are_pooled_as_if_alone() -> None:
    """More users than blocks, so that a block's memory of one user meets the next."""
    rng = np.random.default_rng(0)
    order = np.argsort(-rng.random((20, 200)), axis=1)[:, :60].astype(np.int32)
    values = -np.sort(-rng.integers(0, 64, (20, 60)) / 64, axis=1).astype(
        np.float32
    )  # whose sums are exact
    list_of = np.arange(200)
    triggers = [rng.permutation(20)[: rng.integers(1, 8)].tolist() for _ in range(300)]
    seen = [rng.permutation(200)[: rng.integers(0, 50)].tolist() for _ in range(300)]
    lists = {t: list(zip(order[t].tolist(), values[t].tolist(), strict=True)) for t in range(20)}
    owned, hidden = Ragged.of(triggers), Ragged.of(seen)
    item, score, source = pool_users(owned, hidden, list_of, order, values, vote(values), 40)
    for row in range(300):
        expected = by_hand(lists, triggers[row], set(seen[row]), 40)
        assert list(zip(item[row], score[row], source[row], strict=True)) == expected


def test_p_of_a_candidate_is_the_softmax_of_each_list() -> None:
    scores = np.array(
        [[0.9, 0.5, -0.2], [0.3, -np.inf, -np.inf], [-np.inf, -np.inf, -np.inf]], np.float32
    )
    p = softmax_over_list(scores, 0.1)
    expected = np.exp(np.array([9.0, 5.0, -2.0])) / np.exp(np.array([9.0, 5.0, -2.0])).sum()
    np.testing.assert_allclose(p[0], expected, rtol=1e-5)
    assert p[1].tolist() == [1, 0, 0]
    assert p[2].tolist() == [0, 0, 0]
    assert p.dtype == np.float32


def test_a_temperature_that_overflows_the_exponential_leaves_softmax_over_list() -> None:
    p = softmax_over_list(np.array([[1.0, 0.99, -1.0]], np.float32), 1e-4)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
    assert np.isfinite(p).all()


CATALOG = 60
shapes = st.tuples(
    st.integers(1, 8),
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


@given(st.lists(shapes, min_size=1, max_size=4))
def test_a_pool_does_not_depend_on_those_before_it(
    requests: list[tuple[int, int, int, int, bool]],
) -> None:
    """Requests one after the other through the same scratch memory; few distinct scores, so that
    many are equal.
    """
    pooling = Pooling(CATALOG)
    for lists, k, size, seed, ties in requests:
        rng = np.random.default_rng(seed)
        ids = np.argsort(rng.random((lists, CATALOG)), axis=1)[:, :k].astype(np.int32)
        raw = rng.integers(-3, 4, ids.shape) / 4 if ties else rng.normal(size=ids.shape)
        scores = -np.sort(-raw.astype(np.float32), axis=1)
        ends = rng.integers(0, ids.shape[1] + 1, lists)
        gone = np.arange(ids.shape[1]) >= ends[:, None]
        ids[gone], scores[gone] = -1, -np.inf
        seen = rng.permutation(CATALOG)[: rng.integers(0, 20)].astype(np.int32)
        votes = softmax_over_list(scores, 0.2)
        triggers, hidden = Ragged.of([np.arange(lists)]), Ragged.of([seen])
        item, total, source = pool_users(
            triggers, hidden, np.arange(CATALOG), ids, scores, votes, size
        )
        n = int((item >= 0).sum())
        found, sums, nearest, place = pooling.rank(ids, scores, votes, seen, size)
        np.testing.assert_array_equal(found, item[0, :n])
        np.testing.assert_array_equal(sums, total[0, :n])
        np.testing.assert_array_equal(place, source[0, :n])
        np.testing.assert_array_equal(
            nearest, scores[place, (ids[place] == found[:, None]).argmax(axis=1)]
        )
