"""The approximate index against exact search."""

import numpy as np
import pytest

from mtmh.retrieval.index import build_index, extend_index, search, search_exact

ALL = np.arange(2000, dtype=np.int32)


def unit_rows(n: int, d: int = 12, seed: int = 0, groups: int = 40) -> np.ndarray:
    """Clustered like embeddings are."""
    rng = np.random.default_rng(seed)
    raw = 2 * rng.normal(size=(groups, d))[rng.integers(0, groups, n)] + rng.normal(size=(n, d))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vectors: np.ndarray, item: int, k: int) -> list[int]:
    scores = vectors @ vectors[item]
    return [i for i in np.argsort(-scores, kind="stable").tolist() if i != item][:k]


@pytest.mark.parametrize("min_recall", [0.7, 0.95])
def test_recall_against_exact_search_reaches_what_was_asked(min_recall: float) -> None:
    vectors = unit_rows(2000)
    index, tuning = build_index(vectors, 50, min_recall, seed=0)
    found, exact = search(index, vectors, ALL, 50)[0], search_exact(vectors, ALL, 50)[0]
    recall = np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(found, exact, strict=True)])
    assert recall >= min_recall
    assert tuning.recall == pytest.approx(recall, abs=0.02)
    assert 1 < tuning.nlist <= 4 * 2000**0.5
    assert index.nprobe == tuning.nprobe < tuning.nlist


def test_more_recall_costs_more_clusters() -> None:
    vectors = unit_rows(2000)
    assert build_index(vectors, 50, 0.6, 0)[1].nprobe < build_index(vectors, 50, 0.99, 0)[1].nprobe


def test_the_same_seed_gives_the_same_index() -> None:
    vectors = unit_rows(500)
    pairs = [build_index(vectors, 20, 0.9, seed=3) for _ in range(2)]
    assert pairs[0][1] == pairs[1][1]
    items = ALL[:500]
    np.testing.assert_array_equal(*(search(index, vectors, items, 20)[0] for index, _ in pairs))


def test_scores_are_cosines_best_first_and_the_trigger_is_left_out() -> None:
    vectors = unit_rows(300)
    items = np.array([5, 17, 5], np.int32)
    ids, scores = search_exact(vectors, items, 20)
    assert (ids.dtype, scores.dtype, ids.shape) == (np.int32, np.float32, (3, 20))
    for row, item in enumerate(items):
        assert ids[row].tolist() == by_hand(vectors, item, 20)
        np.testing.assert_allclose(scores[row], vectors[ids[row]] @ vectors[item], atol=1e-6)
        assert (np.diff(scores[row]) <= 0).all()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_tiny_catalogs_give_what_there_is(n: int) -> None:
    vectors = unit_rows(n)
    index, tuning = build_index(vectors, 1000, 0.95, seed=0)
    assert (tuning.nlist, tuning.nprobe, tuning.recall) == (1, 1, 1.0)
    for k in (1, n, n + 3):
        ids, scores = search(index, vectors, np.arange(n, dtype=np.int32), k)
        assert ids.shape == scores.shape == (n, k)
        for item in range(n):
            expected = by_hand(vectors, item, k)
            assert ids[item].tolist() == expected + [-1] * (k - len(expected))
            assert np.isneginf(scores[item, len(expected) :]).all()


def test_no_triggers_give_no_lists() -> None:
    vectors = unit_rows(50)
    assert search(build_index(vectors, 5, 0.9, 0)[0], vectors, ALL[:0], 5)[0].shape == (0, 5)


@pytest.mark.parametrize("copies", [3, 200])
def test_items_that_are_all_alike_do_not_push_each_other_out(copies: int) -> None:
    """The trigger is not always the first of its copies: it is left out all the same, and nobody
    else is.
    """
    vectors = unit_rows(300)
    vectors[50 : 50 + copies] = vectors[50]
    index, tuning = build_index(vectors, 20, 0.95, seed=0)
    assert tuning.recall >= 0.95
    items = np.arange(50, 50 + copies, dtype=np.int32)
    for ids, scores in (search(index, vectors, items, 20), search_exact(vectors, items, 20)):
        assert not (ids == items[:, None]).any()
        assert all(len(set(row)) == 20 for row in ids.tolist())
        alike = min(copies - 1, 20)
        np.testing.assert_allclose(scores[:, :alike], 1, atol=1e-5)
        assert np.isin(ids[:, :alike], items).all()


@pytest.mark.parametrize(("start", "rebuilt"), [(1900, False), (1000, True)])
def test_an_extended_index_finds_what_was_asked_and_leaves_the_old_one(
    start: int, rebuilt: bool
) -> None:
    vectors = unit_rows(2000)
    old, before = build_index(vectors[:start], 50, 0.9, seed=0)
    new, tuning = extend_index(old, vectors, 50, 0.9, seed=0)
    assert (old.ntotal, new.ntotal) == (start, 2000)
    assert (tuning.nlist > before.nlist) == rebuilt  # too many have come for the clusters there are
    found, exact = search(new, vectors, ALL, 50)[0], search_exact(vectors, ALL, 50)[0]
    recall = np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(found, exact, strict=True)])
    assert recall >= 0.9
    assert tuning.recall == pytest.approx(recall, abs=0.02)
    if rebuilt:
        assert tuning == build_index(vectors, 50, 0.9, seed=0)[1]


def test_nprobe_of_an_extended_index_rises_when_recall_has_fallen() -> None:
    vectors = unit_rows(2000)
    old, before = build_index(vectors[:1600], 50, 0.5, seed=0)
    same = extend_index(old, vectors, 50, 0.5, seed=0)[1]
    assert (same.nlist, same.nprobe) == (before.nlist, before.nprobe)
    more = extend_index(old, vectors, 50, 0.97, seed=0)[1]
    assert more.nlist == before.nlist
    assert more.nprobe > before.nprobe
    assert more.recall >= 0.97
