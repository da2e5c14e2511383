"""Time and memory of a stage, and progress of a long loop, as plain lines on standard output."""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def measured(step: str, out: Path) -> Iterator[None]:
    """Create the stage's directory `out`, run the stage, then write `out/step.json`.

    The file holds `step`, `seconds` (wall) and `peak_memory_mb` (largest resident set of this
    process so far).
    """
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    yield
    seconds = round(time.perf_counter() - start, 3)
    figures = {"step": step, "seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    (out / "step.json").write_text(json.dumps(figures))


def peak_memory_mb() -> int:
    """Largest resident set of this process so far, in MiB."""
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Progress:
    """Progress of `total` units, at most one line every `every` seconds.

    Plain lines, not a moving bar: the steps of a pipeline run in processes whose output is read
    line by line.
    """

    def __init__(self, label: str, total: int, unit: str, every: float = 5.0) -> None:
        self.label, self.total, self.unit, self.every = label, total, unit, every
        self.done, self.start = 0, time.perf_counter()
        self.last_line = self.start

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more units as done; print a line when the last one is
        old enough or this is the end.
        """
        self.done += amount
        now = time.perf_counter()
        if now - self.last_line >= self.every or self.done >= self.total:
            self.last_line = now
            share = 100 * self.done / max(self.total, 1)
            line = f"{self.label}: {share:3.0f} %  {self.rate():,.0f} {self.unit}/s  {note}"
            print(line.rstrip(), flush=True)

    def rate(self) -> float:
        """Units a second since the start."""
        return self.done / max(time.perf_counter() - self.start, 1e-9)
