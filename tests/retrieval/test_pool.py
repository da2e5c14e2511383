"""Pooling against plain Python: sort everything, keep the best of each item."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtmh.retrieval.pool import pool_candidates

N_ITEMS, DEPTH = 10, 5
scores = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])  # few, so that ties are common
offers = st.dictionaries(st.integers(0, N_ITEMS - 1), scores, max_size=DEPTH)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    triggers = draw(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=6, unique=True))
    lists = {t: sorted(draw(offers).items(), key=lambda offer: -offer[1]) for t in triggers}
    some = st.lists(st.sampled_from(triggers), max_size=5, unique=True)
    users = draw(st.lists(st.tuples(some, st.sets(st.integers(0, N_ITEMS - 1), max_size=6)), max_size=6))
    return {"lists": lists, "users": users, "size": draw(st.integers(1, 12))}


def by_hand(lists: dict, triggers: list[int], seen: set[int], size: int) -> list[tuple[int, float, int]]:
    """Best score first; equal scores in the order of the user's triggers."""
    every = [
        (-score, place, rank, item, trigger)
        for place, trigger in enumerate(triggers)
        for rank, (item, score) in enumerate(lists[trigger])
    ]
    pool: dict[int, tuple[int, float, int]] = {}
    for score, _, _, item, trigger in sorted(every):
        if item not in seen:
            pool.setdefault(item, (item, -score, trigger))
    return list(pool.values())[:size]


@given(requests())
def test_pools_are_the_best_offers_of_all_triggers(request_: dict[str, Any]) -> None:
    lists, users, size = request_["lists"], request_["users"], request_["size"]
    list_of = np.full(N_ITEMS, -1, np.int64)
    ids, values = np.full((len(lists), DEPTH), -1, np.int32), np.full((len(lists), DEPTH), -np.inf, np.float32)
    for row, (trigger, found) in enumerate(lists.items()):
        list_of[trigger] = row
        for rank, (item, score) in enumerate(found):
            ids[row, rank], values[row, rank] = item, score
    triggers, seen = [u[0] for u in users], [sorted(u[1]) for u in users]
    item, score, source = pool_candidates(
        *flat(triggers), list_of, ids, values, *flat(seen), size=size, n_items=N_ITEMS
    )
    assert item.shape == score.shape == source.shape == (len(users), size)
    for row, (own, known) in enumerate(users):
        expected = by_hand(lists, own, known, size)
        n = len(expected)
        assert list(zip(item[row, :n], score[row, :n], source[row, :n], strict=True)) == expected
        assert (item[row, n:] == -1).all()
        assert (source[row, n:] == -1).all()
        assert np.isneginf(score[row, n:]).all()


def flat(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, rows)]), np.array([i for row in rows for i in row], np.int32)


def test_many_users_are_pooled_as_if_alone() -> None:
    """More users than blocks, so that a block's memory of one user meets the next."""
    rng = np.random.default_rng(0)
    order = np.argsort(-rng.random((20, 200)), axis=1)[:, :60].astype(np.int32)
    values = -np.sort(-rng.random((20, 60)), axis=1).astype(np.float32)
    list_of = np.arange(200)
    triggers = [rng.permutation(20)[: rng.integers(1, 8)].tolist() for _ in range(300)]
    seen = [rng.permutation(200)[: rng.integers(0, 50)].tolist() for _ in range(300)]
    lists = {t: list(zip(order[t].tolist(), values[t].tolist(), strict=True)) for t in range(20)}
    item, score, source = pool_candidates(*flat(triggers), list_of, order, values, *flat(seen), 40, 200)
    for row in range(300):
        expected = by_hand(lists, triggers[row], set(seen[row]), 40)
        assert list(zip(item[row], score[row], source[row], strict=True)) == expected
