"""Steady load on the router for `--seconds` (600): memory, errors, and p50 and p99 over time.

Mixed requests (triggers, users whose exposures are logged, similar items) come at half the rate
that 8 at a time reach, whether or not answers do, on a version of the synthetic world with random
vectors. Told is the p99 of all; its baseline is the p99 of the first fifth. The slope of the memory
is that of the least-squares line after this fifth. The plot is results/steady.png. Exits 1 when a
request failed.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from matplotlib.figure import Figure

from benchmarks.load import Call, Load, Reply, capacity, mixed_calls
from benchmarks.random_version import Items, make_run, users_and_items
from benchmarks.result import FOLDER as RESULTS
from benchmarks.result import write
from benchmarks.server_process import FOLDER, Cost, RunningServer, make_store, serve
from benchmarks.style import LINES, save, styled
from serving.triton.store import promote

# Different requests; share of the time; seconds to measure the capacity, and share of it.
CALLS, WARM_UP, CAPACITY_SECONDS, SHARE = 3000, 0.2, 5.0, 0.5
SAMPLES = 120  # of memory; windows of the latencies are four of them
Samples = list[tuple[float, Cost]]


def main(
    items: Items = 100_000, seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 600.0
) -> None:
    """Mixed requests at half of what the router can take: p50 and p99, errors, memory over time,
    with a plot."""
    run = make_run(items, FOLDER)
    with TemporaryDirectory(prefix="steady-", dir=FOLDER) as folder:
        promote(make_store(Path(folder), {"1": run}, run / "features"), "1")
        with serve(Path(folder)) as served:
            calls = mixed_calls(*users_and_items(run), CALLS)
            rate, replies, samples = uvloop.run(_steady(served, calls, seconds))
    # The first fifth is the warm-up, and the baseline.
    replies.sort(key=lambda reply: reply.start)
    start = replies[0].start
    warm = [reply.seconds for reply in replies if reply.start < start + WARM_UP * seconds]
    p50, p99 = np.quantile([reply.seconds for reply in replies], [0.5, 0.99]) * 1e3
    statuses = Counter(reply.status for reply in replies)
    # Only requests that name a user are exposures, which must be logged.
    of_users = [
        reply for reply in replies if reply.status == 200 and "user_id" in calls[reply.call].body
    ]
    details: dict[str, Any] = {
        "baseline": "p99 of the first fifth",
        "items": items,
        "seconds": seconds,
        "requests_per_s": round(rate, 1),
        "p50_ms": round(float(p50), 3),
        "statuses": dict(statuses),
        "errors": len(replies) - statuses[200],
        "said": dict(
            Counter(str(reply.answer["error"]) for reply in replies if reply.status == 503)
        ),
        "degraded": sum(reply.status == 200 and not reply.whole for reply in replies),
        "not_logged": sum(not reply.answer["exposure_logged"] for reply in of_users),
        "memory": {
            part: _memory(samples, part, start + WARM_UP * seconds) for part in ("router", "triton")
        },
    }
    write("steady", float(p99), "ms p99", float(np.quantile(warm, 0.99)) * 1e3, details)
    for name, figure in details.items():
        print(f"  {name}: {figure}")
    title = f"{len(replies):,} mixed requests, {items:,} items"
    save(draw(replies, samples, 4 * seconds / SAMPLES, title), RESULTS / "steady.png")
    if details["errors"]:
        sys.exit(f"{details['errors']} requests were not answered with 200")


async def _steady(
    served: RunningServer, calls: Sequence[Call], seconds: float
) -> tuple[float, list[Reply], Samples]:
    """The rate, all replies, and what the processes held meanwhile."""
    rate = SHARE * await capacity(served.url, calls, CAPACITY_SECONDS)
    samples: Samples = []
    async with Load(served.url, calls, rate) as load:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            samples.append((time.perf_counter(), served.cost()))
            await asyncio.sleep(seconds / SAMPLES)
    return rate, load.replies, samples


def _memory(samples: Samples, part: str, after: float) -> dict[str, float]:
    seconds, mib = np.array(
        [(moment, getattr(cost, f"{part}_mib")) for moment, cost in samples if moment >= after]
    ).T
    return {
        "first_mib": round(float(mib[0]), 1),
        "last_mib": round(float(mib[-1]), 1),
        "slope_mib_an_hour": round(slope(seconds, mib), 2),
    }


def slope(seconds: np.ndarray, values: np.ndarray) -> float:
    """Of the least-squares line, in units an hour; 0 where there are fewer than two moments."""
    away = seconds - seconds.mean() if len(seconds) else seconds
    spread = float((away**2).sum())
    return 3600 * float((away * (values - values.mean())).sum()) / spread if spread else 0.0


@styled
def draw(replies: Sequence[Reply], samples: Samples, window: float, title: str) -> Figure:
    """p50 and p99 of each `window` of seconds above the memory of both processes; `replies` by
    their start."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    # Placed by when a request was due, and not by when its answer came.
    start, seconds = replies[0].start, np.array([reply.seconds for reply in replies])
    numbers = np.array([int((reply.start - start) / window) for reply in replies])
    windows = np.unique(numbers)
    for share, name, (color, _, dash) in zip((0.5, 0.99), ("p50", "p99"), LINES, strict=False):
        # Each point stands in the middle of its window.
        values = [1e3 * np.quantile(seconds[numbers == number], share) for number in windows]
        above.plot((windows + 0.5) * window, values, color=color, linestyle=dash, label=name)
    above.set(ylabel="ms", ylim=(0, None), title=title)
    # On the same axis of time, so that latencies can be read beside the memory.
    moments = [moment - start for moment, _ in samples]
    for part, (color, _, dash) in zip(("router", "triton"), LINES, strict=False):
        memory = [getattr(cost, f"{part}_mib") for _, cost in samples]
        below.plot(moments, memory, color=color, linestyle=dash, label=part)
    below.set(ylabel="MiB resident", xlabel="seconds", ylim=(0, None))
    for axes in (above, below):
        axes.legend(frameon=False)
    return figure
