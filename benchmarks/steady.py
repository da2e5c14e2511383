"""Steady load on the router for MTMH_BENCH_SECONDS (default 600): memory, errors, and p50 and p99 over time.

Mixed requests (triggers, users whose exposures are logged, similar items) come at half the rate that 8 at a time reach,
whether or not answers do, on the untrained world of MTMH_BENCH_ITEMS (default 100,000) items. Told is the p99 of all;
its baseline is the p99 of the first fifth. The slope of the memory is that of the least-squares line after this fifth.
The plot is results/steady.png. Exits 1 when a request failed.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop

from benchmarks.judge import slope
from benchmarks.load import Load, Reply, capacity, mixed_calls
from benchmarks.result import FOLDER as RESULTS
from benchmarks.result import write
from benchmarks.served import FOLDER, Cost, Served, make_store, serve
from benchmarks.untrained import make_run, users_and_items
from serving.triton.store import promote

ITEMS = int(os.environ.get("MTMH_BENCH_ITEMS", "100000"))
SECONDS = float(os.environ.get("MTMH_BENCH_SECONDS", "600"))
CALLS, WARM_UP, CAPACITY_SECONDS, SHARE = 3000, 0.2, 5.0, 0.5
SAMPLES = 120  # of memory; windows of the latencies are four of them
Samples = list[tuple[float, Cost]]


def main() -> None:
    """Serve, load, sample, plot."""
    run = make_run(ITEMS, FOLDER)
    with TemporaryDirectory(prefix="steady-", dir=FOLDER) as folder:
        promote(make_store(Path(folder), {"1": run}, run / "features"), "1")
        with serve(Path(folder)) as served:
            calls = mixed_calls(*users_and_items(run), CALLS)
            rate, replies, samples = uvloop.run(_steady(served, calls))
    replies.sort(key=lambda reply: reply.start)
    start = replies[0].start
    warm = [reply.seconds for reply in replies if reply.start < start + WARM_UP * SECONDS]
    p50, p99 = np.quantile([reply.seconds for reply in replies], [0.5, 0.99]) * 1e3
    statuses = Counter(reply.status for reply in replies)
    details: dict[str, Any] = {
        "baseline": "p99 of the first fifth",
        "items": ITEMS,
        "seconds": SECONDS,
        "requests_per_s": round(rate, 1),
        "p50_ms": round(float(p50), 3),
        "statuses": dict(statuses),
        "errors": len(replies) - statuses[200],
        "said": dict(Counter(str(reply.answer["error"]) for reply in replies if reply.status == 503)),
        "degraded": sum(reply.status == 200 and not reply.whole for reply in replies),
        "not_logged": sum(_should_be_logged(reply, calls) and not reply.answer["exposure_logged"] for reply in replies),
        "memory": {part: _memory(samples, part, start + WARM_UP * SECONDS) for part in ("router", "triton")},
    }
    write("steady", float(p99), "ms p99", float(np.quantile(warm, 0.99)) * 1e3, details)
    for title, figures in details.items():
        print(f"  {title}: {figures}")
    _plot(replies, samples, start, RESULTS / "steady.png")
    if details["errors"]:
        sys.exit(f"{details['errors']} requests were not answered with 200")


async def _steady(served: Served, calls: Sequence[Any]) -> tuple[float, list[Reply], Samples]:
    """The rate, all replies, and what the processes held meanwhile."""
    rate = SHARE * await capacity(served.url, calls, CAPACITY_SECONDS)
    samples: Samples = []
    async with Load(served.url, calls, rate) as load:
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            samples.append((time.perf_counter(), served.cost()))
            await asyncio.sleep(SECONDS / SAMPLES)
    return rate, load.replies, samples


def _should_be_logged(reply: Reply, calls: Sequence[Any]) -> bool:
    return reply.status == 200 and "user_id" in calls[reply.call].body


def _memory(samples: Samples, part: str, after: float) -> dict[str, float]:
    kept = [(moment, getattr(cost, f"{part}_mib")) for moment, cost in samples if moment >= after]
    seconds, mib = np.array(kept).T
    return {
        "first_mib": round(float(mib[0]), 1),
        "last_mib": round(float(mib[-1]), 1),
        "slope_mib_an_hour": round(slope(seconds, mib), 2),
    }


def _plot(replies: Sequence[Reply], samples: Samples, start: float, out: Path) -> None:
    """p50 and p99 of each window above the memory of both."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    window = 4 * SECONDS / SAMPLES
    places = np.array([int((reply.start - start) / window) for reply in replies])
    seconds = np.array([reply.seconds for reply in replies])
    windows = np.unique(places)
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        above.plot(
            (windows + 0.5) * window, [1e3 * np.quantile(seconds[places == w], share) for w in windows], label=name
        )
    above.set(ylabel="ms", ylim=(0, None), title=f"{len(replies):,} mixed requests, {ITEMS:,} items")
    for part in ("router", "triton"):
        below.plot(
            [moment - start for moment, _ in samples], [getattr(cost, f"{part}_mib") for _, cost in samples], label=part
        )
    below.set(ylabel="MiB resident", xlabel="seconds", ylim=(0, None))
    for axes in (above, below):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=120)
    print(f"  plot: {out}")
