"""Daily metrics of a log of 1, 3 and 10 million rows: seconds, CPU seconds and peak memory.

The log: `--rows` (10 million) candidates shown over 14 days in answers of 20, an engagement with
one in 20 of them; a user has ten answers and ten engagements before, an item is shown 50 times on
average. Timed is all of it: reading the place, looking for what is wrong in it (some rows come
twice), and every metric, an arm and day. The baseline is reading the same tables (pyarrow, all
columns, a file at a time): what any answer costs at least.
"""

import json
import os
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from benchmarks.result import write
from mtmh.clock import peak_memory_mb
from mtmh.data.contract import UTC_MICROSECONDS
from mtmh.experiment.arms import Arm, assign_all
from mtmh.experiment.data import experiment_data
from mtmh.experiment.folder import Experiment
from mtmh.exposures.compact import write_batch
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES
from mtmh.exposures.tables import REJECTED, LogTables

FOLDER = Path("runs")
DAYS, LIST, TOPICS, CANDIDATES = 14, 20, 300, 60
FIRST = date(2025, 3, 2)
ARMS = (Arm(name="engagement-only", alpha=100), Arm(name="mtmh", alpha=50))
_DAY = 86_400_000_000  # microseconds
_START = int(np.datetime64(FIRST, "us").astype(np.int64))


def main(
    rows: Annotated[int, typer.Option(min=1000, help="Of the largest log.")] = 10_000_000,
) -> None:
    """Seconds and memory of the daily metrics at a tenth, three tenths and all of the rows."""
    FOLDER.mkdir(exist_ok=True)
    figures = {}
    for size in (rows // 10, 3 * rows // 10, rows):
        with TemporaryDirectory(prefix="bench-daily-", dir=FOLDER) as folder:
            experiment = Path(folder)
            make_place(experiment, size, seed=0)
            command = [sys.executable, "-m", "benchmarks.daily", folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            # The baseline: what reading the same tables takes.
            start = time.perf_counter()
            for path in sorted((experiment / "tables").glob("*/day=*/*.parquet")):
                pq.read_table(path, partitioning=None)
            read_s = round(time.perf_counter() - start, 2)
            figures[f"{size:,}"] = json.loads(done.stdout.splitlines()[-1]) | {"read_s": read_s}
        print(f"  {size:,} rows: {figures[f'{size:,}']}")
    last = figures[f"{rows:,}"]
    details = {
        "baseline": "reading the same tables, s",
        "load": os.getloadavg()[1],
        "days": DAYS,
        "sizes": figures,
    }
    write("daily", last["seconds"], f"s for {rows:,} rows", last["read_s"], details)


def measure(folder: Path) -> dict[str, float]:
    """Seconds of the parts, and peak memory in MB, of the daily metrics of a place."""
    # Before the clock starts: imports are no part of the metrics.
    from mtmh.experiment.folder import open_experiment
    from mtmh.experiment.metrics import daily

    start, cpu = time.perf_counter(), time.process_time()
    place_facts = experiment_data(open_experiment(folder))
    read = time.perf_counter()
    table = daily(place_facts)
    end = time.perf_counter()
    counted = {finding.name: finding.count for finding in place_facts.findings if finding.count}
    # For people; whoever started this process reads the last line alone.
    print(json.dumps(counted), table.num_rows, "rows")
    return {
        "seconds": round(end - start, 2),
        "facts_s": round(read - start, 2),
        "daily_s": round(end - read, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mb": peak_memory_mb(),
    }


def make_place(folder: Path, rows: int, seed: int) -> None:
    """A place of `rows` exposures, one batch a day."""
    rng = np.random.default_rng(seed)
    # Ten answers of 20 a user, 50 exposures an item.
    users, items = max(rows // 200, 100), max(rows // 50, 1000)
    (folder / "tables" / "batches").mkdir(parents=True)
    # Half of the items are there before the log begins, half are published during it.
    born = np.where(np.arange(items) % 2, rng.uniform(0, DAYS, items), rng.uniform(-60, 0, items))
    topic = rng.integers(TOPICS, size=(items, 2))
    both = rng.random(items) < 0.125
    names = [f"topic {n}" for n in range(TOPICS)]
    # One item in eight has two topics.
    topics = [
        [names[a], names[b]] if two else [names[a]]
        for (a, b), two in zip(topic.tolist(), both, strict=True)
    ]
    table = {
        "item_id": _ids("item", np.arange(items)),
        "created_at": _times(born),
        "l2_topics": topics,
    }
    pq.write_table(pa.table(table), folder / "items.parquet")
    # What the users did before: ten engagements each.
    past = rng.integers(users, size=10 * users)
    history = {
        "user_id": _ids("user", past),
        "item_id": _ids("item", _popular(items, len(past), rng)),
    }
    history["timestamp"] = _times(rng.uniform(-40, 0, len(past)))
    pq.write_table(pa.table(history), folder / "history.parquet")
    arms = assign_all(_ids("user", np.arange(users)), "bench", ARMS)
    for day in range(DAYS):
        answers = rows // DAYS // LIST
        write_batch(folder / "tables", _day(day, answers, users, born, arms, rng), [])
    experiment = Experiment(
        salt="bench",
        control=ARMS[0].name,
        treatment=ARMS[1].name,
        arms=ARMS,
        first_day=FIRST,
        days=DAYS,
        simulated=True,
    )
    (folder / "experiment.json").write_text(experiment.model_dump_json())


def _day(
    day: int, answers: int, users: int, born: np.ndarray, arms: pa.Array, rng: np.random.Generator
) -> LogTables:
    # Up to 0.98 of the day, so that late engagements still fall into it.
    user, when = rng.integers(users, size=answers), np.sort(rng.uniform(day, day + 0.98, answers))
    # Each answer is a list around one trigger, popular ones more often.
    trigger = np.repeat(_popular(len(born), answers, rng)[:, None], LIST, axis=1)
    order = np.argsort(rng.random((answers, CANDIDATES)), axis=1)[:, :LIST]
    # An item has the same CANDIDATES neighbours every time.
    item = (trigger * 7 + order * 131) % len(born)
    item = np.where(born[item] > when[:, None], item - item % 2, item)
    position = np.tile(np.arange(1, LIST + 1, dtype=np.int32), answers)
    row = np.repeat(np.arange(answers), LIST)
    request_ids = [f"{day:08x}-{n:04x}-4000-8000-{n:012x}" for n in range(answers)]
    requests = pa.array(request_ids)
    n = len(row)
    exposures = {
        "exposure_id": requests.take(pa.array(row)),
        "request_id": requests.take(pa.array(row)),
        "timestamp": _times(when).take(pa.array(row)),
        "user_id": _ids("user", user[row]),
        "arm": arms.take(pa.array(user[row])),
        "model_version": pa.repeat("7", n),
        "alpha": np.where(pc.equal(arms, ARMS[1].name), 50.0, 100.0)[user[row]],
        "arm_alpha": np.where(pc.equal(arms, ARMS[1].name), 50.0, 100.0)[user[row]],
        "own_alpha": np.zeros(n, bool),
        "quotas": pa.nulls(n, pa.string()),
        "arm_quotas": pa.nulls(n, pa.string()),
        "degraded": np.zeros(n, bool),
        "k": np.full(n, LIST, np.int32),
        "surface": pa.repeat("retrieve", n),
        "log_version": np.full(n, 2, np.int32),
        "item_id": _ids("item", item.ravel()),
        "head": pa.array(["engagement", "relevance"]).take(pa.array(position % 2)),
        "head_rank": position // 2 + 1,
        "score": rng.random(n),
        "trigger_id": _ids("item", trigger.ravel()),
        "position": position,
        "day": pa.array(np.full(n, FIRST + timedelta(days=day)), pa.date32()),
    }
    # One exposure in twenty is engaged with, up to half an hour later.
    chosen = np.flatnonzero(rng.random(n) < 0.05)
    late = when[row[chosen]] + rng.uniform(0, 0.02, len(chosen))
    shared = ("exposure_id", "request_id", "user_id", "item_id", "day")
    engagements = {
        **{name: exposures[name].take(pa.array(chosen)) for name in shared},
        "event_id": pa.nulls(len(chosen), pa.string()),
        "call_id": pa.nulls(len(chosen), pa.string()),
        "timestamp": _times(late),
        "event": pa.repeat("click", len(chosen)),
        "value": (rng.random(len(chosen)) < 0.9).astype(np.float64),
        "dwell_seconds": rng.lognormal(3, 1, len(chosen)),
        "log_version": np.full(len(chosen), 2, np.int32),
    }
    # Some rows come twice, as from a log that was sent again: they count once.
    exposed = pa.table(exposures, schema=EXPOSURES)
    acted = pa.table(engagements, schema=ENGAGEMENTS)
    exposed, acted = (pa.concat_tables([table, table.slice(0, LIST)]) for table in (exposed, acted))
    return LogTables(exposed, acted, REJECTED.empty_table())


def _popular(items: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return (items * rng.random(count) ** 2).astype(np.int64)


def _ids(kind: str, numbers: np.ndarray) -> pa.Array:
    names = pa.array([f"{kind}-{number:07d}" for number in range(int(numbers.max(initial=0)) + 1)])
    return names.take(pa.array(numbers))


def _times(days: np.ndarray) -> pa.Array:
    return pa.array((_START + days * _DAY).astype(np.int64)).cast(UTC_MICROSECONDS)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
