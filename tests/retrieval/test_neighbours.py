"""The neighbourhood that hard negatives come from."""

import numpy as np
import pytest

from mtmh.retrieval import neighbours


def test_neighbours_are_the_nearest_known_items_with_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against a full sort; several blocks of queries."""
    monkeypatch.setattr(neighbours, "NEIGHBOURS", 6)
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    content = rng.normal(size=(38, 5)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    content[4] = 0
    known = rng.random(38) < 0.8
    indptr, items = neighbours.content_neighbours(content, known, seed=0)
    able = known & content.any(axis=1)
    cosine = np.where(able, content @ content.T, -np.inf)
    np.fill_diagonal(cosine, -np.inf)
    for item in range(38):
        found = items[indptr[item] : indptr[item + 1]].tolist()
        assert found == (sorted(np.argsort(-cosine[item])[:6].tolist()) if able[item] else [])


@pytest.mark.parametrize("able", [0, 1])
def test_with_nothing_to_be_near_there_are_no_neighbours(able: int) -> None:
    content = np.zeros((4, 3), np.float32)
    content[:able, 0] = 1
    indptr, items = neighbours.content_neighbours(content, np.ones(4, bool), seed=0)
    assert (indptr.tolist(), items.tolist()) == ([0] * 5, [])
