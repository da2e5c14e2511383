"""The neighbourhood that hard negatives come from, and training with them."""

from pathlib import Path

import numpy as np
import pytest
from helpers.checkerboard import ITEMS, OLD, Stages, train_settings
from safetensors.numpy import load_file

from mtmh.errors import UserError
from mtmh.training import hard_negatives
from mtmh.training.train import train


def test_neighbours_are_the_nearest_known_items_with_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against a full sort; several blocks of queries."""
    monkeypatch.setattr(hard_negatives, "NEIGHBOURS", 6)
    monkeypatch.setattr(hard_negatives, "ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    content = rng.normal(size=(38, 5)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    content[4] = 0
    known = rng.random(38) < 0.8
    indptr, items = hard_negatives.content_neighbours(content, known, seed=0)
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
    indptr, items = hard_negatives.content_neighbours(content, np.ones(4, bool), seed=0)
    assert (indptr.tolist(), items.tolist()) == ([0] * 5, [])


def run(world: Stages, out: Path, content: Path, hard: int) -> dict[str, np.ndarray]:
    out.mkdir()
    settings = train_settings(hard_negatives=hard, epochs=1, objective="engagement")
    train(
        world.prepared, world.features, content, world.pairs, out, settings, 0, out / "checkpoints"
    )
    return load_file(out / "weights.safetensors")


def test_hard_negatives_change_what_is_learned_and_a_repetition_does_not(
    world: Stages, tmp_path: Path
) -> None:
    without, hard, again = (
        run(world, tmp_path / name, world.content, n) for name, n in (("a", 0), ("b", 8), ("c", 8))
    )
    assert all((hard[name] == weight).all() for name, weight in again.items())
    assert any((hard[name] != weight).any() for name, weight in without.items())


def test_hard_negatives_without_content_are_refused(world: Stages, tmp_path: Path) -> None:
    """Only items that T1 does not know have content."""
    content = np.zeros((ITEMS, 3), np.float32)
    content[OLD:, 0] = 1
    (tmp_path / "content").mkdir()
    np.save(tmp_path / "content" / "content.npy", content)
    with pytest.raises(UserError, match=r"write train\.hard_negatives=0"):
        run(world, tmp_path / "out", tmp_path / "content", 8)
