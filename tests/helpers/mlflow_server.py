"""A real MLflow server on this machine."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server_process import free_ports
from helpers.processes import until


@contextmanager
def mlflow_server(database: Path, *options: str, **variables: str) -> Iterator[str]:
    """The URL of one over the SQLite file `database`, or what else `options` say, with
    `variables` in its environment, while this is open.
    """
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{database}", *options]
    # Its jobs would be four processes more.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **variables}
    with database.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=database.parent,
            env=environment,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        assert process.poll() is None, database.with_suffix(".log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        until(healthy, 180)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait()
