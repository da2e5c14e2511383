"""Baselines against plain Python, above all who retrieved what."""

import numpy as np
import pytest

from mtmh.evaluation.baselines import content_pool, item_knn_pool, popularity_pool
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Request

N_ITEMS = 60


@pytest.fixture(scope="module")
def histories() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.permutation(N_ITEMS)[: rng.integers(2, 40)].tolist() for _ in range(30)]


def test_popularity_is_the_most_engaged_without_what_was_seen(histories: list[list[int]]) -> None:
    popularity = np.bincount(np.concatenate(histories), minlength=N_ITEMS)
    pool = popularity_pool(
        popularity, Ragged.of([h[:5] for h in histories]), Ragged.of(histories), 25
    )
    ranked = sorted(range(N_ITEMS), key=lambda item: (-popularity[item], item))
    for row, history in enumerate(histories):
        expected = [item for item in ranked if item not in history][:25]
        found = pool.item[row][pool.item[row] >= 0]
        assert found.tolist() == expected
        assert (pool.trigger[row, : len(found)] == history[0]).all()
        assert (pool.score[row, : len(found)] == popularity[expected]).all()


@pytest.mark.parametrize("neighbours", [5, N_ITEMS])
def test_item_knn_is_the_sum_of_cosines_over_the_history(
    histories: list[list[int]], neighbours: int
) -> None:
    """Every candidate has a trigger in the user's history, also one that only an old item
    retrieves.
    """
    users = np.arange(3, 30, dtype=np.int32)
    own = [histories[u] for u in users]
    pool = item_knn_pool(Ragged.of(histories), users, Ragged.of(own), N_ITEMS, 70, neighbours)
    engaged = np.zeros((30, N_ITEMS))
    for user, history in enumerate(histories):
        engaged[user, history] = 1
    length = np.maximum(np.linalg.norm(engaged, axis=0), 1e-9)
    cosine = engaged.T @ engaged / np.outer(length, length)
    for row, history in enumerate(own):
        kept = pool.item[row] >= 0
        items, scores, triggers = (
            pool.item[row][kept],
            pool.score[row][kept],
            pool.trigger[row][kept],
        )
        assert not set(items) & set(history)
        assert (np.diff(scores) <= 1e-6).all()
        assert set(triggers) <= set(history)
        assert (pool.score[row][~kept] == -np.inf).all()
        if neighbours == N_ITEMS:
            np.testing.assert_allclose(scores, cosine[history][:, items].sum(axis=0), rtol=1e-5)
            best = cosine[history][:, items].max(axis=0)
            np.testing.assert_allclose(cosine[triggers, items], best, rtol=1e-6)
            others = np.setdiff1d(np.arange(N_ITEMS), history)
            assert len(items) == (cosine[history][:, others].sum(axis=0) > 0).sum()


def test_content_ranks_by_the_mixture_of_its_triggers_softmaxes(histories: list[list[int]]) -> None:
    content = np.random.default_rng(1).normal(size=(N_ITEMS, 8)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    triggers = [history[:4] for history in histories]
    request = Request(
        Ragged.of(triggers), Ragged.of(histories), k_ann=N_ITEMS, size=10, temperature=0.2
    )
    pool = content_pool(content, request)
    for row, (own, history) in enumerate(zip(triggers, histories, strict=True)):
        cosine = content[own].astype(np.float64) @ content.T
        likely = np.exp(cosine / 0.2)
        likely[np.arange(len(own)), own] = 0  # a trigger does not retrieve itself
        p = (likely / likely.sum(axis=1, keepdims=True)).mean(axis=0)
        left = np.setdiff1d(np.arange(N_ITEMS), history)
        expected = left[np.argsort(-p[left], kind="stable")][:10]
        assert pool.item[row].tolist() == expected.tolist()
        np.testing.assert_allclose(pool.score[row], p[expected], rtol=1e-4)
        assert pool.trigger[row].tolist() == [own[cosine[:, item].argmax()] for item in expected]
