"""One result file a benchmark: the figure, its baseline from the same run, and where it was
measured."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
Spread = dict[str, float]  # mean, min, max


def write(
    name: str, value: float, unit: str, baseline: float, details: dict[str, Any]
) -> dict[str, Any]:
    """Keep and print {name, value, unit, baseline, ratio, commit, command, machine, details}; ratio
    null over 0."""
    # Commit, command and machine, so that a figure can be measured again or doubted.
    result = {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "baseline": round(baseline, 4),
        "ratio": round(value / baseline, 4) if baseline else None,
        "commit": commit(),
        "command": f"mtmh {shlex.join(sys.argv[1:])}",
        "machine": machine(),
        "details": details,
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{name}: {value:,.4g} {unit}, baseline {baseline:,.4g}, ratio {result['ratio']}")
    return result


def spread(values: list[float]) -> Spread:
    """Mean, least and most of one figure over the seeds."""
    return {
        "mean": round(statistics.mean(values), 5),
        "min": round(min(values), 5),
        "max": round(max(values), 5),
    }


def commit() -> str:
    """The commit of the checkout, with "+changes" when the tree differs from it."""
    root = Path(__file__).parents[1]
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
    )
    # A copy without git can be measured as well.
    if head.returncode != 0:
        return "unknown"
    # Results of an earlier benchmark, and their page, change nothing of what is measured.
    tracked = [
        "git",
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":!benchmarks/results",
        ":!docs/results.md",
    ]
    changed = subprocess.run(tracked, cwd=root, capture_output=True, text=True).stdout.strip()
    return head.stdout.strip() + ("+changes" if changed else "")


def machine() -> str:
    """Processor, cores and memory."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    )


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall seconds of `work` over `repeats` calls, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
