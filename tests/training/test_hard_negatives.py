"""Training with hard negatives, drawn from each trigger's neighbourhood."""

from pathlib import Path

import numpy as np
import pytest
from helpers.checkerboard import ITEMS, OLD, Stages, train_settings
from safetensors.numpy import load_file

from mtmh.errors import UserError
from mtmh.retrieval.neighbours import stage_neighbours
from mtmh.training.train import train


def run(world: Stages, out: Path, content: Path, hard: int) -> dict[str, np.ndarray]:
    out.mkdir()
    settings = train_settings(hard_negatives=hard, epochs=1, objective="engagement")
    folders = world.prepared, world.features, content, world.pairs
    neighbours = stage_neighbours(world.prepared, content, 0)
    train(*folders, out, settings, 0, out / "checkpoints", neighbours)
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
