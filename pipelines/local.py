"""The real pipeline on this machine, by Kubeflow's local runner: a process a step, cached,
resumable.

Shown is a line as a step starts and ends, the step's own lines between them, and no more.
Kubeflow's runner prints everything to standard output: the narrator takes its place there, passes
on what the steps say (components/step.py) and keeps the whole in a log file.
"""

import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import FileIO, TextIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from components.step import MARK
from mtmh.config import Config
from mtmh.disk import explain_full_disk, full_disk_explained
from mtmh.errors import UserError
from mtmh.object_store import resolved
from pipelines.arguments import of_run
from pipelines.names import explain_name, record
from pipelines.runs_folder import keep_rejected, owned, point, sweep

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent
    from kfp.dsl.pipeline_task import PipelineTask

INDENT = "    "
CACHED = re.compile(r"Task (\S+) cache hit")


class StepError(RuntimeError):
    """A step ended with an error that is not the user's; the message holds what it printed last."""


def run(
    source: str, config: Config, runs: Path, screen: TextIO | None = None, name: str | None = None
) -> Path:
    """Run the pipeline over the data at `source` (a path, a URL, or "synthetic") and return the run
    directory.

    `name` is what the data set goes by in `runs`; by default its folder's, unless that stands for
    other data there.

    Finished steps of earlier runs come from the cache. Raises UserError for what the user can fix
    (bad data, bad settings) and StepError for anything else; what an unfinished step wrote is
    removed.
    """
    screen = screen or sys.stdout
    runs = runs.resolve()
    source = source if source == "synthetic" else resolved(source)
    arguments = of_run(source, config, tracking_uri(runs), runs, runs / ".scratch", name)
    arguments["artifacts"] = (runs / "mlartifacts").as_uri()
    model_name = str(arguments["model_name"]).removeprefix("mtmh-")
    if line := explain_name(runs, model_name, source):
        print(line, file=screen, flush=True)
    run_id, champion = str(arguments["run_id"]), Path(str(arguments["champion_link"]))
    # One run at a time has the folder; it begins and ends without what unfinished steps wrote.
    with full_disk_explained(runs), owned(runs):
        sweep(runs)
        try:
            from pipelines.main import STEPS, define

            # A backbone that comes with its package needs no network; the steps then get none.
            offline = (
                config.content.backbone == "packaged" and config.content.visual_backbone is None
            )
            execute(define, STEPS, arguments, runs / ".pipeline", screen, offline)
        except UserError as error:
            raise UserError(keep_rejected(runs, run_id, str(error))) from None
        finally:
            sweep(runs)
        finished = runs / run_id
        point(runs / "latest", finished)
        record(runs, model_name, source, str(arguments["fingerprint"]))
    # What passed the gate must serve now: anything else is an error of ours.
    retriever = finished / "retriever"
    passed = json.loads((finished / "metrics.json").read_text())["gate"]["passed"]
    if passed and champion.resolve() != retriever:
        raise StepError(
            f"the gate passed, but {champion} does not lead to {retriever}: deploy did not run"
        )
    return finished


def tracking_uri(runs: Path) -> str:
    """MLflow's database in the folder `runs`."""
    from sqlalchemy import URL

    database = str(runs.resolve() / "mlflow.db")
    return URL.create("sqlite", database=database).render_as_string(hide_password=False)


def execute(
    define: Callable[[], "BaseComponent"],
    steps: Sequence[str],
    arguments: dict[str, str | int],
    root: Path,
    screen: TextIO,
    offline: bool,
) -> "PipelineTask":
    """Run a pipeline here, a process a step, its artifacts and its log (last.log) in the folder
    `root`.

    Returns the pipeline as a task that has ended, with its outputs.

    Raises UserError for what the user can fix, and StepError for anything else.
    """
    from kfp import local

    log = root / "last.log"
    with _environment(offline), narrated(steps, screen, log) as narrator:
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            enable_caching=True,
        )
        try:
            return define()(**arguments)
        except RuntimeError as error:
            # Kubeflow's error names the step alone; the reason is in what the step printed.
            if narrator.error is not None:
                raise UserError(narrator.error) from None
            traceback = "\n".join(narrator.traceback)
            if message := explain_full_disk(f"{error}\n{traceback}", log.parent):
                raise UserError(message) from None
            step = f"step {narrator.running}" if narrator.running else "the pipeline"
            silent = f"{error} Without a word: perhaps killed for lack of memory."
            reason = "\n".join(narrator.traceback[-15:]) or silent
            raise StepError(f"{step} failed; the whole log: {log}\n{reason}") from None


@contextmanager
def _environment(offline: bool) -> Iterator[None]:
    """Surroundings of the steps' processes: lines at once, temporary files that go when the run
    ends, no network."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mtmh-") as temporary:
        os.environ.update(
            PYTHONUNBUFFERED="1",
            TMPDIR=temporary,
            DO_NOT_TRACK="true",
            MLFLOW_DISABLE_TELEMETRY="true",
        )
        if offline:
            os.environ.update(HF_HUB_OFFLINE="1")
        previous, tempfile.tempdir = tempfile.tempdir, None
        try:
            yield
        finally:
            tempfile.tempdir = previous
            os.environ.clear()
            os.environ.update(before)


class Narrator(TextIOBase):
    """A text stream that turns the runner's output into progress on `screen`."""

    def __init__(self, steps: Sequence[str], screen: TextIO, log: TextIO, root: Path) -> None:
        super().__init__()
        # root/run/step/artifact/
        self.artifacts = re.compile(rf"{re.escape(str(root))}(/[^/\s]+){{3}}/")
        self.steps, self.screen, self.log = list(steps), screen, log
        self.running: str | None = None
        self.started = 0.0
        self.error: str | None = None  # a UserError's message
        self.traceback: list[str] = []  # of the step that failed
        self.buffer = ""
        self.log_ended = False

    def write(self, text: str, /) -> int:
        """Take text as it comes, and handle it line by line."""
        *lines, self.buffer = (self.buffer + text).split("\n")
        for line in lines:
            # Where the log's disk is full the log ends, and the step's own error follows.
            if not self.log_ended:
                try:
                    self.log.write(line + "\n")
                except OSError as error:
                    self.log_ended = True
                    self._say(f"        the log ends here ({error.strerror})")
            # The runner indents what a step's process prints; the rest is its own.
            if line.startswith(INDENT):
                self._line(line.removeprefix(INDENT))
        return len(text)

    def flush(self) -> None:
        """Flush the screen; the log is written as it comes."""
        self.screen.flush()

    def isatty(self) -> bool:
        """Never a terminal: a step's lines are for reading one by one."""
        return False

    def cached(self, step: str) -> None:
        """Say that the outputs of `step` came from the cache."""
        self._say(f"{self._number(step)} {step}: from the cache")

    def _line(self, line: str) -> None:
        """A line of a step: an event (components/step.py), a traceback's, or for people to read."""
        if line.startswith(MARK):
            event, _, rest = line.removeprefix(MARK).strip().partition(" ")
            step, _, detail = rest.partition(" ")
            if event == "start":
                self.running, self.started = step, time.perf_counter()
                self._say(f"{self._number(step)} {step}")
            elif event == "end":
                self.running = None
                self._say(f"        done in {time.perf_counter() - self.started:.1f} s")
            elif event == "error":
                self.running, self.error = None, json.loads(detail)
        elif self.running is not None:
            # From its first line on, a traceback is not for the screen: `execute` shows its end.
            if self.traceback or line.startswith("Traceback (most recent"):
                self.traceback.append(line)
            elif line.strip():
                self._say(f"        {self.artifacts.sub('', line)}")

    def _number(self, step: str) -> str:
        number = self.steps.index(step) + 1 if step in self.steps else 0
        return f"[{number:2d}/{len(self.steps)}]"

    def _say(self, text: str) -> None:
        self.screen.write(text + "\n")
        self.screen.flush()


class _CacheHits(logging.Handler):
    """Kubeflow tells of a cache hit by the root logger alone."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__(logging.INFO)
        self.narrator = narrator

    def emit(self, record: logging.LogRecord) -> None:
        hit = CACHED.match(record.getMessage())
        if hit:
            self.narrator.cached(hit.group(1))


@contextmanager
def narrated(steps: Sequence[str], screen: TextIO, log: Path) -> Iterator[Narrator]:
    """Route this process's standard output through a narrator for a while; `log` lies in the
    pipeline's root."""
    root = logging.getLogger()
    level = root.level
    with TextIOWrapper(FileIO(log, "w"), encoding="utf-8", write_through=True) as file:
        narrator = Narrator(steps, screen, file, log.parent)
        hits = _CacheHits(narrator)
        root.addHandler(hits)
        root.setLevel(logging.INFO)
        try:
            with redirect_stdout(narrator):
                yield narrator
        finally:
            root.removeHandler(hits)
            root.setLevel(level)
