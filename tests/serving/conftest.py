"""The real Triton over versions of a small world, started once."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import tritonclient.grpc as grpc
from helpers.asking import Serving
from helpers.cluster_api import StandIn, running
from helpers.processes import triton_ports
from helpers.small_cluster import write_package as write_small_package
from helpers.small_version import write_run, write_world

from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever
from serving.triton.export import write_package
from serving.triton.store import install, promote
from serving.triton.supervisor import triton

ROOT = Path(__file__).resolve().parents[2]
RUNS = {  # version -> how it was trained
    "1": {},
    "2": {"seed": 1},
    "3": {"objective": "engagement", "ranked": False},
    "4": {"quotas": {"engagement": 40, "relevance": 45, "subject": 15}},
}
RunOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """Version -> its run: 1 and 2 have both heads and a preranker, 3 one head alone, 4 has three."""
    root = tmp_path_factory.mktemp("serving")
    world = write_world(root / "world")
    return cache(lambda version: write_run(world, root / version, **RUNS[version]))


@pytest.fixture(scope="session")
def package_of(run_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """Version -> its package; tests only read it."""
    root = tmp_path_factory.mktemp("packages")
    return cache(lambda version: write_package(run_of(version), version, root / version))


@pytest.fixture(scope="session")
def store(package_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All versions; 1 is the champion."""
    place = tmp_path_factory.mktemp("store")
    for version in RUNS:
        install(package_of(version), place)
    promote(place, "1")
    return place


@pytest.fixture(scope="session")
def installed() -> None:
    """Skip where Triton is not installed."""
    place = Path(os.environ.setdefault("MTMH_TRITON", str(ROOT / ".triton")))
    if not (place / "server").is_dir():
        pytest.skip(f"needs Triton in {place}: make .triton/.ready")


@pytest.fixture(scope="session")
def serving(installed: None, store: Path) -> Iterator[Serving]:
    """Triton with the champion loaded; what else a test needs it loads."""
    start = time.perf_counter()
    with triton(store, triton_ports()) as server:
        print(f"\nTriton: start to ready in {time.perf_counter() - start:.1f} s")
        client = grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}")
        yield Serving(server, client, store)
        client.close()


@pytest.fixture(scope="session")
def retriever_of(run_of: RunOf) -> Callable[[str], Retriever]:
    """Version -> the offline retriever."""
    return cache(lambda version: query.load(run_of(version)))


@pytest.fixture
def copied_store(store: Path, tmp_path: Path) -> Path:
    """A store to spoil: no file of it is a link to another's."""
    place = tmp_path / "store"
    shutil.copytree(store, place)
    return place


@pytest.fixture
def api(tmp_path: Path) -> Iterator[StandIn]:
    """The stand-in of a cluster, whose store has versions 7 to 10; none serves."""
    for version in ("7", "8", "9", "10"):
        write_small_package(tmp_path / version, version)
        install(tmp_path / version, tmp_path / "store")
    with running(StandIn(tmp_path / "store")) as started:
        yield started
        assert started.unserved == set()
