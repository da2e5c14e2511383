"""Where faults are made: a router with its Triton, two versions, the histories in Redis, a small
disk for the log."""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.random_version import load_histories
from benchmarks.server_process import RunningServer, free_ports, make_store, serve
from feature_repo.store import EMBEDDED
from mtmh.errors import UserError
from mtmh.heads import HEADS
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.version import MANIFEST, verify, write_manifest
from serving.triton.export import write_package
from serving.triton.store import install, promote

# Room for the log of all faults, and quickly filled.
DISK_MIB = 256
# Shorter than the defaults, so that a fault and its end show within seconds.
SETTINGS = ("limits.body_seconds=3", "triton.poll_seconds=0.5", "triton.drain_seconds=1")


@dataclass
class Redis:
    """A redis-server that keeps what it holds when it is stopped."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers. Raises UserError where there is no redis-server."""
        from redis import Redis as Client
        from redis import RedisError

        if shutil.which("redis-server") is None:
            raise UserError("no redis-server on the PATH: apt-get install -y redis-server.")
        # Every write goes to a file, as it must hold the same when it is started again.
        options = [
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--dir",
            str(self.folder),
        ]
        command = ["redis-server", "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        # It accepts connections before it can answer: only an answer counts.
        with Client(port=self.port) as client:
            while True:
                try:
                    client.dbsize()  # an error while it still reads its file
                    return
                except RedisError:
                    if self.process.poll() is not None:
                        raise UserError(
                            f"redis-server ended at once ({self.process.returncode})."
                        ) from None
                    time.sleep(0.05)

    def stop(self) -> None:
        """Return when it has ended."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


@dataclass
class Scene:
    """What the faults are made to."""

    served: RunningServer
    retriever: Path  # of version 1
    redis: Redis
    disk: Path
    is_disk: bool  # else the size of the router's files is bounded instead
    fuzz: int  # requests to make up
    # statuses of requests that are no part of the load
    extra: Counter[int] = field(default_factory=Counter)
    # in words, answers to them that no page declares
    undeclared: list[str] = field(default_factory=list)

    def promote(self, version: str) -> None:
        promote(self.served.store, version)

    def install_corrupt(self, number: str) -> None:
        """Install version 1 again under another number, a byte of its index wrong."""
        store, package = self.served.store, self.retriever.parent / f".package-{number}"
        try:
            install(write_package(self.retriever, number, package), store)
        finally:
            shutil.rmtree(package)
        index = store / "models" / f"relevance_{number}" / number / "index.faiss"
        content = bytearray(index.read_bytes())
        content[len(content) // 2] ^= 0xFF
        index.unlink()  # it may be a hard link
        index.write_bytes(content)


@contextmanager
def set_up(run: Path, folder: Path, fuzz: int, *settings: str) -> Iterator[Scene]:
    """Serve version 1 of `run`, with version 2 beside it; `settings` are the router's, its log
    `folder`/serve.log."""
    with ExitStack() as stack:
        store = make_store(folder, {"1": run, "2": exchanged(run, folder / "other")}, None)
        redis = Redis(folder)
        stack.callback(redis.stop)
        redis.start()
        environment = {
            "FEAST_FS_YAML_FILE_PATH": str(EMBEDDED.with_name("feature_store.cluster.yaml")),
            "REDIS_CONNECTION": f"127.0.0.1:{redis.port}",
        }
        # Feast reads the place of its store from the environment of this process.
        stack.callback(os.environ.update, dict(os.environ))
        stack.callback(os.environ.clear)  # the last one that is pushed runs first
        os.environ.update(environment)
        load_histories(run, folder / "features")
        is_disk = stack.enter_context(small_disk(folder / "disk"))
        promote(store, "1")
        directories = (
            f"features.directory={folder / 'features'}",
            f"log.directory={folder / 'disk' / 'log'}",
        )
        served = stack.enter_context(
            serve(folder, *SETTINGS, *settings, *directories, environment=environment)
        )
        yield Scene(served, run / "retriever", redis, folder / "disk", is_disk, fuzz)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of DISK_MIB on `folder` where this user may; whether it is one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    mounted = (
        os.geteuid() == 0
        and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def exchanged(run: Path, out: Path) -> Path:
    """The version of `run` with its heads exchanged: the same files, other answers."""
    retriever = out / "retriever"
    shutil.copytree(run / "retriever", retriever)
    for kind in ("npy", "faiss"):
        first, second = (retriever / f"{head}.{kind}" for head in HEADS)
        first.rename(retriever / "draft")
        second.rename(first)
        (retriever / "draft").rename(second)
    (retriever / MANIFEST).unlink()
    created_from = {"path": "synthetic", "fingerprint": "exchanged", "split_time": ""}
    write_manifest(retriever, created_from, channels_in(verify(run / "retriever")))
    return out
