"""A real Triton over packages of the small world, and routers before it: a real uvicorn in a thread, on a free port."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from checkerboard import Stages
from live_router import POLL, Place, Router, Run, eventually, free_ports

from mtmh.config import DataSettings
from mtmh.retrieval.retriever import Retriever
from serving.router.app import make_server
from serving.router.settings import Source
from serving.triton.export import write_package
from serving.triton.store import install, promote
from serving.triton.supervisor import Ports, triton

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def features(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feast's embedded store of the small world: the histories of its users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feature_repo.stage import build_features
    root = tmp_path_factory.mktemp("features")
    (root / "out").mkdir()
    build_features(world.prepared, None, root / "out", root / "store", DataSettings())
    return root / "store"


@pytest.fixture(scope="session")
def place(version: Make, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
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
        yield Place(root, store, retrievers, features, ports, server)


@pytest.fixture(autouse=True)
def _champion_one(request: pytest.FixtureRequest) -> None:
    """Every test begins with version 1."""
    if "place" in request.fixturenames:
        promote(request.getfixturevalue("place").store, "1")


@pytest.fixture(scope="session")
def run_router(place: Place) -> Run:
    """Run a router over the store, with settings of its own, until the block ends."""

    @contextmanager
    def run(*settings: str, config: Path | None = None, wait: bool = True, token: str = "") -> Iterator[Router]:
        port = free_ports(1)[0]
        own = [f"store={place.store}", f"triton.url=127.0.0.1:{place.ports.grpc}", f"listen.port={port}"]
        own += ["listen.grpc_port=null", f"triton.poll_seconds={POLL}", "triton.drain_seconds=0.5"]
        own += ["limits.deadline_ms=5000", "features.timeout_ms=4000"]  # a busy machine is no slow head
        service, server = make_server(Source(config, [*own, *settings]))
        thread = threading.Thread(target=server.run)
        thread.start()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=headers) as client:
                eventually(lambda: server.started or not thread.is_alive(), "the router listens")
                if wait:
                    eventually(lambda: client.get("/readyz").status_code == 200, "the router is ready")
                yield Router(service, client, port)
        finally:
            server.should_exit = True
            thread.join()

    return run


@pytest.fixture(scope="module")
def router(run_router: Run) -> Iterator[Router]:
    """A router for tests that change nothing."""
    with run_router() as running:
        yield running


@pytest.fixture(scope="session")
def offline(place: Place) -> dict[str, Retriever]:
    """What each version answers offline."""
    return {number: Retriever.load(path) for number, path in place.retrievers.items()}
