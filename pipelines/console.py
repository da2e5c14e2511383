"""What a local run shows: a line as a step starts and ends, the step's own lines between them, and no more.

Kubeflow's local runner prints everything to standard output. The narrator takes its place there, passes on what the
steps say (components/step.py) and keeps the whole in a log file.
"""

import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import FileIO, TextIOBase, TextIOWrapper
from pathlib import Path
from typing import TextIO

from components.step import MARK

INDENT = "    "
CACHED = re.compile(r"Task (\S+) cache hit")


class Narrator(TextIOBase):
    """A text stream that turns the runner's output into progress on `screen`."""

    def __init__(self, steps: Sequence[str], screen: TextIO, log: TextIO, root: Path) -> None:
        super().__init__()
        self.artifacts = re.compile(rf"{re.escape(str(root))}(/[^/\s]+){{3}}/")  # root/run/step/artifact/
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
            self._keep(line + "\n")
            if line.startswith(INDENT):  # the runner indents what a step's process prints
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

    def _keep(self, text: str) -> None:
        """Write to the log; where its disk is full the log ends, and the step's own error follows."""
        if self.log_ended:
            return
        try:
            self.log.write(text)
        except OSError as error:
            self.log_ended = True
            self._say(f"        the log ends here ({error.strerror})")

    def _line(self, line: str) -> None:
        if line.startswith(MARK):
            event, _, rest = line.removeprefix(MARK).strip().partition(" ")
            step, _, detail = rest.partition(" ")
            self._event(event, step, detail)
        elif self.running is not None and (self.traceback or line.startswith("Traceback (most recent")):
            self.traceback.append(line)
        elif self.running is not None and line.strip():
            self._say(f"        {self.artifacts.sub('', line)}")

    def _event(self, event: str, step: str, detail: str) -> None:
        if event == "start":
            self.running, self.started = step, time.perf_counter()
            self._say(f"{self._number(step)} {step}")
        elif event == "end":
            self.running = None
            self._say(f"        done in {time.perf_counter() - self.started:.1f} s")
        elif event == "error":
            self.running, self.error = None, json.loads(detail)

    def _number(self, step: str) -> str:
        place = self.steps.index(step) + 1 if step in self.steps else 0
        return f"[{place:2d}/{len(self.steps)}]"

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
    """Route this process's standard output through a narrator for a while; `log` lies in the pipeline's root."""
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
