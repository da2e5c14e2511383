"""A store with its Triton, a router before it, and what tests do to them."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.processes import free_ports
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.version import verify, write_manifest
from serving.router.app import make_server
from serving.router.service import Service
from serving.router.settings import Source
from serving.triton.backend.files import CHECKSUMS, sha256
from serving.triton.export import write_package
from serving.triton.supervisor import Ports, Triton

POLL = 0.2


def eventually(holds: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until it holds; fail after `seconds`, which is far more than it takes."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"still not, after {seconds:g} s: {what}")
        time.sleep(0.05)


@dataclass
class RouterFolder:
    """A store with versions 1 and 2 (other heads), the packages they came from, and the Triton over
    it.
    """

    root: Path
    store: Path
    retrievers: dict[str, Path]
    features: Path
    ports: Ports
    triton: Triton

    def package(self, number: str, like: str = "1") -> Path:
        """A new package of version `number` with the content of version `like`."""
        out = self.root / "packages" / number
        return write_package(self.retrievers[like], number, out, self.features)


@dataclass
class Router:
    """A running router and a client of it."""

    service: Service
    client: httpx.Client
    port: int

    def retrieve(self, status: int = 200, **asked: object) -> dict:
        """POST /v1/retrieve; fails on another status."""
        return self.post("/v1/retrieve", asked, status)

    def post(self, path: str, asked: object, status: int = 200) -> dict:
        response = self.client.post(path, json=asked)
        assert response.status_code == status, response.text
        answer: dict = response.json()
        return answer

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


class Traffic:
    """Requests without a pause, from several threads, until the block ends."""

    def __init__(self, port: int, asked: dict) -> None:
        self.url, self.asked = f"http://127.0.0.1:{port}/v1/retrieve", asked
        self.over, self.answers = threading.Event(), []
        self.threads = [threading.Thread(target=self._press) for _ in range(3)]

    def _press(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self.over.is_set():
                self.answers.append(client.post(self.url, json=self.asked))

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def dated(retriever: Path, out: Path, dates: list[datetime | None]) -> Path:
    """A copy of a version whose first items were created at `dates`, the others at a time that is
    not known.
    """
    shutil.copytree(retriever, out)
    items = pq.read_table(out / "items.parquet")
    column = pa.array([*dates, *[None] * (len(items) - len(dates))], pa.timestamp("us", tz="UTC"))
    at = items.column_names.index("created_at")
    pq.write_table(items.set_column(at, "created_at", column), out / "items.parquet")
    manifest = verify(retriever)
    write_manifest(out, manifest["created_from"], channels_in(manifest))
    return out


def rewrite(store: Path, number: str, model: str, change: Callable[[str], str]) -> None:
    """Change the code of one model of an installed version, with all its checksums."""
    folder = store / "models" / model / number
    code = folder / "model.py"
    text = change(code.read_text())
    code.unlink()  # it is a hard link
    code.write_text(text)
    checksums = json.loads((folder / CHECKSUMS).read_text()) | {"model.py": sha256(code)}
    (folder / CHECKSUMS).unlink()
    (folder / CHECKSUMS).write_text(json.dumps(checksums))
    manifest = store / "versions" / number / "manifest.json"
    told = json.loads(manifest.read_text())
    for path in (code, folder / CHECKSUMS):
        told["sha256"][str(path.relative_to(store))] = sha256(path)
    manifest.unlink()
    manifest.write_text(json.dumps(told))


def remove(store: Path, number: str) -> None:
    """Take a version out of the store."""
    shutil.rmtree(store / "versions" / number)
    for model in (store / "models").glob(f"*_{number}"):
        shutil.rmtree(model)


Run = Callable[..., AbstractContextManager[Router]]


@contextmanager
def running(
    store: Path,
    ports: Ports,
    secret: str,
    *settings: str,
    config: Path | None = None,
    wait: bool = True,
    token: str = "",
) -> Iterator[Router]:
    """A router over the store, a real uvicorn in a thread on a free port, with settings of
    its own.
    """
    port = free_ports(1)[0]
    own = [f"store={store}", f"triton.url=127.0.0.1:{ports.grpc}", f"listen.port={port}"]
    own += ["listen.grpc_port=null", f"triton.poll_seconds={POLL}", "triton.drain_seconds=0.5"]
    own += ["limits.deadline_ms=5000", "features.timeout_ms=4000"]  # a busy machine is no slow head
    service, server = make_server(Source(config, [*own, *settings], secret))
    thread = threading.Thread(target=server.run)
    thread.start()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=30, headers=headers
        ) as client:
            eventually(lambda: server.started or not thread.is_alive(), "the router listens")
            if wait:
                eventually(lambda: client.get("/readyz").status_code == 200, "the router is ready")
            yield Router(service, client, port)
    finally:
        server.should_exit = True
        thread.join()
