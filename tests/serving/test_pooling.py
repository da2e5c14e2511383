"""The backend's pooling, without Numba, against the library's, with it: the same bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtmh.retrieval import pool as library
from serving.triton.backend.pooling import Pooling, probabilities

ITEMS = 60
shapes = st.tuples(st.integers(1, 8), st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())


@given(st.lists(shapes, min_size=1, max_size=4))
def test_pools_are_those_of_the_library(requests: list[tuple[int, int, int, int, bool]]) -> None:
    """Requests one after the other through the same scratch memory; few distinct scores, so that many are equal."""
    pooling = Pooling(ITEMS)
    for lists, k, size, seed, ties in requests:
        rng = np.random.default_rng(seed)
        ids = np.argsort(rng.random((lists, ITEMS)), axis=1)[:, :k].astype(np.int32)
        raw = rng.integers(-3, 4, ids.shape) / 4 if ties else rng.normal(size=ids.shape)
        scores = -np.sort(-raw.astype(np.float32), axis=1)
        ends = rng.integers(0, ids.shape[1] + 1, lists)
        gone = np.arange(ids.shape[1]) >= ends[:, None]
        ids[gone], scores[gone] = -1, -np.inf
        seen = rng.permutation(ITEMS)[: rng.integers(0, 20)].astype(np.int32)
        votes = library.probabilities(scores, 0.2)
        np.testing.assert_array_equal(probabilities(scores, 0.2), votes)
        triggers = (np.array([0, lists]), np.arange(lists, dtype=np.int32))
        item, total, source = library.pool_candidates(
            *triggers, np.arange(ITEMS), ids, scores, votes, np.array([0, len(seen)]), seen, size, ITEMS
        )
        n = int((item >= 0).sum())
        found, sums, nearest, place = pooling.rank(ids, scores, votes, seen, size)
        np.testing.assert_array_equal(found, item[0, :n])
        np.testing.assert_array_equal(sums, total[0, :n])
        np.testing.assert_array_equal(place, source[0, :n])
        np.testing.assert_array_equal(nearest, scores[place, (ids[place] == found[:, None]).argmax(axis=1)])
