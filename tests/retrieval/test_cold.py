"""Cold items stand where their content neighbours stand, and nothing else moves."""

import numpy as np

from mtmh.retrieval.scoring import NEIGHBOURS, place_cold

ITEMS, TAU_Q = 60, 0.1


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    known = np.arange(ITEMS) % 5 > 0
    return unit(rng.normal(size=(ITEMS, 8))), unit(rng.normal(size=(ITEMS, 6))), known


def test_a_cold_item_is_the_weighted_mean_of_its_nearest_known_neighbours() -> None:
    vectors, content, known = some()
    placed = place_cold(vectors, content, known, TAU_Q)
    for item in np.flatnonzero(~known):
        cosine = {other: float(content[item] @ content[other]) for other in np.flatnonzero(known)}
        near = sorted(cosine, key=lambda other: -cosine[other])[:NEIGHBOURS]
        mean = sum(
            np.exp(cosine[other] / TAU_Q) * vectors[other].astype(np.float64) for other in near
        )
        np.testing.assert_allclose(placed[item], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(placed[known], vectors[known])


def test_what_has_no_content_stays_and_gives_nothing() -> None:
    vectors, content, known = some()
    content[[0, 5]] = 0  # cold
    content[1] = 0  # known, and at cosine 0 nearer than half of all
    placed = place_cold(vectors, content, known, TAU_Q)
    np.testing.assert_array_equal(placed[[0, 5]], vectors[[0, 5]])
    moved = vectors.copy()
    moved[1] = -vectors[1]
    cold = np.flatnonzero(~known)
    np.testing.assert_array_equal(place_cold(moved, content, known, TAU_Q)[cold], placed[cold])


def test_with_fewer_known_items_than_neighbours_or_none() -> None:
    vectors, content, known = some()
    few = np.zeros(ITEMS, dtype=bool)
    few[7] = True
    placed = place_cold(vectors, content, few, TAU_Q)
    np.testing.assert_allclose(placed, np.broadcast_to(vectors[7], vectors.shape), atol=1e-6)
    np.testing.assert_array_equal(place_cold(vectors, content, few & False, TAU_Q), vectors)
    np.testing.assert_array_equal(place_cold(vectors, content, known | True, TAU_Q), vectors)


def test_the_given_vectors_are_left_alone() -> None:
    vectors, content, known = some()
    before = vectors.copy()
    place_cold(vectors, content, known, TAU_Q)
    np.testing.assert_array_equal(vectors, before)
