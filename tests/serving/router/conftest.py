"""A real Triton over packages of the small world, and routers before it: a real uvicorn in a
thread, on a free port.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from helpers.checkerboard import Stages
from helpers.live_router import Router, RouterFolder, Run, running
from helpers.processes import free_ports
from tritonclient.grpc import InferenceServerClient

from mtmh.retrieval.retriever import Retriever
from serving.triton.export import write_package
from serving.triton.store import install, promote
from serving.triton.supervisor import Ports, triton

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def features(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feast's embedded store of the small world: the histories of its users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feature_repo.histories import build_histories
    folder = tmp_path_factory.mktemp("features")
    build_histories(world.prepared, folder, "mtmh_small_1")
    return folder


@pytest.fixture(scope="session")
def place(
    version: Make, features: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterFolder]:
    installed = Path(os.environ.get("MTMH_TRITON", ".triton"))
    if not (installed / "server").is_dir():
        pytest.skip(f"no Triton in {installed}: make .triton/.ready")
    root = tmp_path_factory.mktemp("serving")
    store = root / "store"
    retrievers = {"1": version("mtmh"), "2": version("stmh")}
    for number, retriever in retrievers.items():
        install(write_package(retriever, number, root / "packages" / number, features), store)
    promote(store, "1")
    ports = Ports(*free_ports(3))
    with triton(store, ports, load_champion=False) as server:
        yield RouterFolder(root, store, retrievers, features, ports, server)


@pytest.fixture(autouse=True)
def _champion_one(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test begins with version 1, and ends with it: a module's router starts before the
    module's first test.
    """
    store = request.getfixturevalue("place").store if "place" in request.fixturenames else None
    if store is not None:
        promote(store, "1")
    yield
    if store is not None:
        promote(store, "1")


@pytest.fixture
def server(place: RouterFolder) -> Iterator[InferenceServerClient]:
    """Triton's own client."""
    with InferenceServerClient(f"127.0.0.1:{place.ports.grpc}") as client:
        yield client


@pytest.fixture(scope="session")
def run_router(place: RouterFolder) -> Run:
    """Run a router over the store, with settings of its own, until the block ends."""

    return partial(running, place.store, place.ports, place.triton.secret)


@pytest.fixture(scope="module")
def router(run_router: Run) -> Iterator[Router]:
    """A router for tests that change nothing."""
    with run_router() as running:
        yield running


@pytest.fixture(scope="session")
def offline(place: RouterFolder) -> dict[str, Retriever]:
    """What each version answers offline."""
    return {number: Retriever.load(path) for number, path in place.retrievers.items()}
