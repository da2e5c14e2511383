"""What every room's tests share: the small world of checkerboard.py and models trained on it."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers.checkerboard import Stages, write_model, write_stages, write_version
from helpers.fresh_world import FreshWorld, write_fresh_world
from helpers.processes import free_ports
from helpers.redis_server import redis_server
from hypothesis import settings

import feature_repo

# A slow machine is no failure, and Numba compiles in the first example.
settings.register_profile("mtmh", deadline=None)
settings.load_profile("mtmh")

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Directories of the stages before training; tests only read them."""
    return write_stages(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def trained(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Objective -> directory of the stage train, seed 0; each is trained once."""
    root = tmp_path_factory.mktemp("models")
    return cache(lambda objective: write_model(world, root / objective, objective))


@pytest.fixture(scope="session")
def version(world: Stages, trained: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Objective -> directory of the stage index."""
    root = tmp_path_factory.mktemp("versions")
    return cache(
        lambda objective: write_version(world, root / objective, objective, trained(objective))
    )


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> FreshWorld:
    """A version, and the same without its newest items; tests only read them."""
    return write_fresh_world(tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def in_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster's environment for what Feast puts online: an empty Redis; its host:port."""
    cluster = Path(feature_repo.__file__).with_name("feature_store.cluster.yaml")
    (port,) = free_ports(1)
    monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(cluster))
    monkeypatch.setenv("REDIS_CONNECTION", f"127.0.0.1:{port}")
    with redis_server(tmp_path, port):
        yield f"127.0.0.1:{port}"
