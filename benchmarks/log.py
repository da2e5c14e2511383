"""Appending to the durable log, alone and 64 at a time, beside an fsync for each record on the same
disk."""

import asyncio
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.result import median_seconds, write
from mtmh.exposures.log import LogWriter
from mtmh.exposures.records import encode
from mtmh.exposures.segment import frame, scan
from mtmh.exposures.tables import read_segment

# Candidates of a record; appends one at a time, and with 64 at a time.
CANDIDATES, ALONE, MANY = 50, 500, 20_000
RECORD: dict[str, Any] = {  # one answer
    "kind": "exposure",
    "request_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "timestamp": datetime.now(UTC),
    "user_id": "user-123456",
    "arm": "control",
    "model_version": "7",
    "alpha": 50.0,
    "degraded": False,
    "k": CANDIDATES,
    "surface": "retrieve",
    "item_id": [f"item-{rank:06d}" for rank in range(CANDIDATES)],
    "head": [("engagement", "relevance")[rank % 2] for rank in range(CANDIDATES)],
    "head_rank": [rank // 2 + 1 for rank in range(CANDIDATES)],
    "score": [0.123456789 / (rank + 1) for rank in range(CANDIDATES)],
    "trigger_id": [f"item-{rank % 7:06d}" for rank in range(CANDIDATES)],
}
FOLDER = Path("runs")  # where the router's log lies too; a disk, not a tmpfs


def main() -> None:
    """Appends a second with 64 at a time; the baseline is one fsync a record, which waits for
    nobody else."""
    line = frame(encode(RECORD))
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-log-", dir=FOLDER) as folder:
        # The baseline: no record shares its fsync with another.
        handle = os.open(Path(folder) / "baseline", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        seconds = []
        for _ in range(ALONE):
            start = time.perf_counter()
            os.write(handle, line)
            os.fsync(handle)
            seconds.append(time.perf_counter() - start)
        os.close(handle)
        fsync = _figures(seconds, sum(seconds))
        alone = asyncio.run(_append(Path(folder) / "alone", ALONE, 1))
        many = asyncio.run(_append(Path(folder) / "many", MANY, 64))
        segment = next((Path(folder) / "many").glob("*.segment")).read_bytes()
    records = len(scan(segment).records)
    figures = {"fsync_each": fsync, "append_at_1": alone, "append_at_64": many}
    details: dict[str, Any] = {
        "baseline": "write and fsync of one record after the other, appends/s",
        "record": f"one answer of {CANDIDATES} candidates, {len(line):,} bytes",
        **figures,
        "encode_us": round(
            median_seconds(lambda: [encode(RECORD) for _ in range(1000)], 5) * 1e3, 1
        ),
        "read_records_per_s": round(
            records / median_seconds(lambda: read_segment("a.segment", segment), 3)
        ),
    }
    write("log", many["per_s"], "appends/s", fsync["per_s"], details)
    for name, rates in figures.items():
        print(f"  {name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in rates.items()))


async def _append(directory: Path, count: int, lanes: int) -> dict[str, float]:
    """Each lane appends its next record as soon as the last one is on disk."""
    seconds: list[float] = []

    async def lane(log: LogWriter) -> None:
        for _ in range(count // lanes):
            start = time.perf_counter()
            await log.append([RECORD])
            seconds.append(time.perf_counter() - start)

    async with LogWriter(directory) as log:
        start = time.perf_counter()
        await asyncio.gather(*(lane(log) for _ in range(lanes)))
        return _figures(seconds, time.perf_counter() - start)


def _figures(seconds: list[float], total: float) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "per_s": round(len(seconds) / total, 1),
        "p50_ms": round(cuts[49] * 1e3, 3),
        "p99_ms": round(cuts[98] * 1e3, 3),
    }
