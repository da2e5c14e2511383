"""The monitor: time for the days of a place, and the pictures of its dashboard, one a tab.

Monitors the place of `--place` (where `mtmh simulate` writes one) into a temporary folder and opens
every tab in a real browser. Told is the time a day, with the import of Evidently; its baseline is
that import alone.
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.page import browser, resize
from benchmarks.result import FOLDER, write
from benchmarks.server_process import free_ports
from mtmh.errors import UserError

WIDTH, SECONDS = 1280, 120
DRAWN = (
    "return [...document.querySelectorAll('.MuiGrid-container h5')]"
    ".map((title) => title.textContent)"
)
BUSY = "return document.querySelectorAll('[role=progressbar], .MuiSkeleton-root').length"
# The page is drawn when every panel but those of text has its chart.
CHARTS = "return document.querySelectorAll('.MuiGrid-container svg').length"


@contextmanager
def served(workspace: Path) -> Iterator[str]:
    """The monitor's server over a workspace, as `mtmh monitor` starts it: its address."""
    (port,) = free_ports(1)
    call = "import sys; from pathlib import Path; from monitoring.evidently.server import serve; "
    call += "serve(Path(sys.argv[1]), int(sys.argv[2]))"
    command = [sys.executable, "-W", "ignore", "-c", call, str(workspace), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def open_tab(driver: Any, address: str, panels: int, lines: int) -> list[str]:
    """Open a page of the dashboard and wait until its `panels` are drawn, `lines` of them charts:
    their titles."""
    from selenium.webdriver.support.wait import WebDriverWait

    driver.get(address)

    def drawn(driver: Any) -> bool:
        titles, charts = driver.execute_script(DRAWN), driver.execute_script(CHARTS)
        return len(titles) == panels and charts >= lines and not driver.execute_script(BUSY)

    WebDriverWait(driver, SECONDS, poll_frequency=0.1).until(drawn)
    return [str(title) for title in driver.execute_script(DRAWN)]


def main(
    experiment: Annotated[
        Path, typer.Option("--place", help="A place whose experiment is watched.")
    ] = Path("runs/watched"),
) -> None:
    """Seconds of the monitor a day, and a picture of every tab of its dashboard."""
    if not experiment.is_dir():
        raise UserError(
            f"no place at {experiment}: make one with `mtmh simulate`,"
            " or name another with --place."
        )
    start, used = time.perf_counter(), time.process_time()
    from monitoring.evidently.bounds import read_bounds
    from monitoring.evidently.monitor import WORKSPACE, monitor
    from mtmh.experiment.folder import open_experiment

    imported = time.perf_counter() - start

    # A folder of its own, so that every day is monitored for the first time.
    with tempfile.TemporaryDirectory() as folder:
        watched = monitor(open_experiment(experiment), Path(folder), read_bounds())
        seconds, used = time.perf_counter() - start, time.process_time() - used
        pictures(Path(folder) / WORKSPACE, watched.project, FOLDER)
    arms = len(open_experiment(experiment).experiment.arms)
    details: dict[str, float] = {
        "days": len(watched.days),
        "arms": arms,
        "figures": len(watched.figures),
        "broken": len(watched.broken),
    }
    details |= {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used, 1),
        "import": round(imported, 1),
    }
    write(
        "monitor",
        seconds / len(watched.days),
        "s a day, import included",
        imported / len(watched.days),
        details,
    )


def pictures(workspace: Path, project: str, out: Path) -> list[Path]:
    """A picture of every tab, at the height that shows its first panels."""
    from monitoring.evidently.dashboard import TABS
    from monitoring.evidently.server import slug

    written = []
    with served(workspace) as base, browser() as driver:
        for tab in TABS:
            resize(driver, WIDTH, 1400)
            # How many panels to wait for: a page that is half drawn looks finished as well.
            model = panels_of(base, project, tab)
            open_tab(
                driver,
                f"{base}/projects/{project}?tab={slug(tab)}",
                len(model),
                sum(bool(n) for n in model.values()),
            )
            time.sleep(1)  # the lines grow into their places
            written.append(out / f"monitor_{slug(tab).replace('-', '_')}.png")
            driver.save_screenshot(str(written[-1]))
            print(f"{written[-1]}: {len(model)} panels")
    return written


def panels_of(base: str, project: str, tab: str) -> dict[str, int]:
    """The panels of a tab as the server tells them to the page: title -> how many lines."""
    import json

    from monitoring.evidently.server import slug

    request = urllib.request.Request(f"{base}/api/v2/dashboards/{project}")
    request.add_header("Referer", f"{base}/projects/{project}?tab={slug(tab)}")
    with urllib.request.urlopen(request) as answer:
        return {panel["title"]: len(panel["values"]) for panel in json.load(answer)["panels"]}


def _wait(base: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise UserError(
                "the monitor's server ended by itself; start it with `mtmh monitor` to see why."
            )
        try:
            urllib.request.urlopen(f"{base}/api/version").close()
            return
        except OSError:
            time.sleep(0.2)
    raise UserError(f"the monitor's server did not answer at {base} within {SECONDS} s.")
