"""A real S3-compatible server on this machine: rclone over a folder, with signatures."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from benchmarks.server_process import free_ports
from helpers.processes import until

KEY = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret"}


@contextmanager
def s3_server(folder: Path, *words: str) -> Iterator[dict[str, str]]:
    """The environment of its clients, while it serves the buckets that are folders of `folder`;
    `words` go before its command.
    """
    (port,) = free_ports(1)
    rclone = Path(sys.executable).with_name("rclone")
    command = [*words, str(rclone), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", ",".join(KEY.values()), "--config", "", "--dir-cache-time", "1ms"]
    with (folder / "rclone.log").open("w") as log:
        process = subprocess.Popen([*command, str(folder)], stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "rclone.log").read_text()
        try:
            return bool(urllib3.request("GET", endpoint, retries=False).status)
        except urllib3.exceptions.HTTPError:
            return False

    try:
        until(answers, 60)
        yield {**KEY, "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    finally:
        process.terminate()
        process.wait()


def reach(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Let this process, and those that it starts, be clients of the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
