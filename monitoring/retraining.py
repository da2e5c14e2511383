"""Retraining: whether a day asks for it, what to train on then, and the start of the main pipeline."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import ibis
import pyarrow as pa

from monitoring.bounds import Bounds
from monitoring.monitor import Monitored
from mtmh.data.contract import INTERACTIONS, ITEMS, conform, read_parquet
from mtmh.data.files import write_json, write_parquet
from mtmh.errors import UserError
from mtmh.experiment.place import Place
from mtmh.experiment.relations import possible

RAISED = "retraining.json"  # below the monitor's folder: the last retraining that was raised, and why


def due(monitored: Monitored, out: Path, bounds: Bounds) -> bool:
    """Whether the last day that was monitored raises a retraining run.

    It does when a bound of a family under `retrain` is broken on it, unless one was raised less than `pause_days` ago:
    what that one trains does not serve yet.
    """
    day = monitored.days[-1]
    if not any(one.day == day for one in monitored.retrain):
        return False
    if not (out / RAISED).is_file():
        return True
    last = date.fromisoformat(json.loads((out / RAISED).read_text())["day"])
    return not timedelta(0) < day - last < timedelta(days=bounds.pause_days)


def write_data(place: Place, day: date, out: Path) -> Path:
    """Write what is known by the end of `day` as a folder of the data contract: history, the log's engagements, items.

    The engagements keep the arm that their user was in, so that whoever trains on them can tell. Returns `out`.
    """
    log = place.logged()
    end = datetime.combine(day + timedelta(days=1), time(), UTC)
    events = log.engagements.filter(log.engagements.timestamp < ibis.literal(end), possible(log.engagements))
    arms = log.exposures.filter(log.exposures.user_id.notnull()).group_by("user_id").agg(arm=ibis._.arm.min())
    columns = [column.name for column in INTERACTIONS]
    events = events.left_join(arms, "user_id").select(*(name for name in columns if name != "arm"), "arm")
    before = read_parquet(place.history)
    engaged = events.to_pyarrow()
    parts = [conform(part, INTERACTIONS, str(place.folder)) for part in (before, engaged) if len(part)]
    items = conform(read_parquet(place.items), ITEMS, str(place.items))
    write_parquet(pa.concat_tables(parts).sort_by("timestamp"), out / "interactions.parquet")
    write_parquet(items, out / "items.parquet")
    return out


def start(command: list[str], data: Path, out: Path, day: date) -> None:
    """Run `mtmh COMMAND.. --data DATA`, as a person would: `run` here, `submit` to a cluster; then note that it was.

    Raises UserError with what it said when it did not succeed.
    """
    words = [*command, "--data", str(data)]
    print(f"mtmh {' '.join(words)}", flush=True)
    # In a step, kfp hides what makes pipelines; in here one is made.
    surroundings = {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}
    call = [sys.executable, "-m", "mtmh.cli", *words]
    ended = subprocess.run(call, env=surroundings, stderr=subprocess.PIPE, text=True)
    if ended.returncode != 0:
        raise UserError(f"the retraining run failed: {ended.stderr.strip()[-2000:]}")
    write_json({"day": str(day), "command": words}, out / RAISED)
