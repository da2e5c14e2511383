"""What every room's tests share: the small world of checkerboard.py and models trained on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from checkerboard import Stages, retrieval_settings, train_settings, write_stages
from hypothesis import settings

settings.register_profile(
    "mtmh", deadline=None
)  # a slow machine is no failure, and Numba compiles in the first example
settings.load_profile("mtmh")

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Directories of the stages before training; tests only read them."""
    return write_stages(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def trained(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Objective -> directory of the stage train, seed 0; each is trained once."""
    done: dict[str, Path] = {}

    def get(objective: str) -> Path:
        from mtmh.training.train import train

        if objective not in done:
            out = tmp_path_factory.mktemp(objective)
            settings = train_settings(objective=objective)
            train(world.prepared, world.features, world.content, world.pairs, out, settings, 0, out / "checkpoints")
            done[objective] = out
        return done[objective]

    return get


@pytest.fixture(scope="session")
def version(world: Stages, trained: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Objective -> directory of the stage index."""
    done: dict[str, Path] = {}

    def get(objective: str) -> Path:
        from mtmh.retrieval.version import build

        if objective not in done:
            out = tmp_path_factory.mktemp(f"version-{objective}")
            model = trained(objective)
            build(world.prepared, world.features, world.content, model, out, retrieval_settings(), 0)
            done[objective] = out
        return done[objective]

    return get
