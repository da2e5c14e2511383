"""A real PostgreSQL of a test's own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.server_process import free_ports


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of its empty database, until the block ends; skips where there is none to start."""
    if shutil.which("initdb") is None:
        pytest.skip("no PostgreSQL on the PATH: apt-get install -y postgresql")
    # It does not run as root; Debian's package brings a user for it.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="mtmh-postgres-") as folder:
        if user:
            shutil.chown(folder, "postgres")
        start = [*user, "initdb", "-D", f"{folder}/data", "-U", "feast", "--auth", "trust"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [*user, "pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-w"]
        subprocess.run(
            [*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        try:
            yield f"postgresql+psycopg://feast@127.0.0.1:{port}/postgres"
        finally:
            stop = [*control, "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=folder)
