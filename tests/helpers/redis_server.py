"""A real redis-server of a test's own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import ConnectionError, Redis

from helpers.processes import until


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An empty one that answers, until the block ends; skips where there is none to start, but in
    CI."""
    binary = shutil.which("redis-server")
    if binary is None:
        message = "no redis-server on the PATH: install it with 'apt-get install -y redis-server'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([binary, "--port", str(port), *options], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with Redis(port=port) as client:
            try:
                return bool(client.ping())
            except ConnectionError:
                return False

    try:
        until(answers)
        yield server
    finally:
        server.kill()
        server.wait()
