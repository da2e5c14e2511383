"""`mtmh watch dashboard`: the dashboard as a server of its own beside the monitor that writes."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from helpers.processes import free_ports, until
from helpers.small_place import FIRST

from monitoring.evidently.bounds import read_bounds
from monitoring.evidently.monitor import WORKSPACE, monitor
from mtmh.experiment.folder import ExperimentFolder

HOST = "127.0.0.2"  # of this machine, and another than the default


@contextmanager
def dashboard(out: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    code = "import mtmh_cli; mtmh_cli.main()"
    words = ["watch", "dashboard", "--out", str(out), "--host", HOST, "--port", str(port)]
    url = f"http://{HOST}:{port}"
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, *words]) as process:

        def listens() -> bool:
            assert process.poll() is None
            try:
                return get(f"{url}/api/version") != ""
            except urllib.error.URLError:
                return False

        try:
            until(listens, 180)
            yield url
        finally:
            process.terminate()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def test_a_day_that_is_monitored_meanwhile_is_on_the_dashboard(
    place: ExperimentFolder, tmp_path: Path
) -> None:
    (tmp_path / WORKSPACE).mkdir()  # the first day comes after the server
    with dashboard(tmp_path) as url:
        assert json.loads(get(f"{url}/api/projects")) == []
        for number in range(2):
            day = FIRST + timedelta(days=number)
            monitored = monitor(place, tmp_path, read_bounds(), day, day)
            reports = json.loads(get(f"{url}/api/projects/{monitored.project}/reports"))
            days = {report["metadata"]["day"] for report in reports}
            assert max(days) == str(day)
            assert len(days) == number + 1
