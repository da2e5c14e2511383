"""Retraining: whether a day asks for it, that it is raised once, and what to train on then."""

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import ibis
import pyarrow as pa

from monitoring.evidently.bounds import Bounds
from monitoring.evidently.monitor import Monitored
from mtmh.data.contract import INTERACTIONS, ITEMS, conform, read_parquet
from mtmh.data.files import write_json, write_parquet
from mtmh.experiment.folder import ExperimentFolder
from mtmh.experiment.relations import once, possible
from mtmh.exposures.log import lock

# below the monitor's folder: the last retraining that was raised, and why
RAISED = "retraining.json"


def due(monitored: Monitored, out: Path, bounds: Bounds) -> bool:
    """Whether the last day that was monitored raises a retraining run: a bound of a family under
    `retrain` is broken on it, and none was raised within `pause_days` before it, or for a later
    day."""
    day = monitored.days[-1]
    is_broken = any(broken.day == day for broken in monitored.retrain)
    return is_broken and not _raised_lately(day, out, bounds)


def _raised_lately(day: date, out: Path, bounds: Bounds) -> bool:
    """What was raised less than `pause_days` ago does not serve yet; a later day's run knew what
    this one does."""
    if not (out / RAISED).is_file():
        return False
    last = date.fromisoformat(json.loads((out / RAISED).read_text())["day"])
    return day - last < timedelta(days=max(bounds.pause_days, 1))


def retrain(
    experiment: ExperimentFolder,
    day: date,
    data: Path,
    out: Path,
    command: list[str],
    bounds: Bounds,
    start: Callable[[Path], None],
) -> bool:
    """`start` a run on what is known by the end of `day`, unless that was raised already; whether
    it was done.

    `start` is given the folder of the data, `data`; `command` are the words of `mtmh` that do the
    same, for the note and for people. The note is written before anything starts, so that of two at
    once, or of the same day again, one trains. Where `start` fails, the note before it comes back,
    and the next day that is out of bounds raises one again.
    """
    out.mkdir(parents=True, exist_ok=True)
    note = out / RAISED
    # Whoever writes the note first trains; what it said before is for the case of failure.
    with _claiming(out):
        if _raised_lately(day, out, bounds):
            return False
        before = note.read_text() if note.is_file() else ""
        write_json({"day": str(day), "command": command}, note)
    try:
        written = write_data(experiment, day, data)
        print(shlex.join(["mtmh", *command, "--data", str(written)]), flush=True)
        start(written)
    except BaseException:
        # A run that failed was not raised.
        with _claiming(out):
            if before:
                write_json(json.loads(before), note)
            else:
                note.unlink()
        raise
    return True


@contextmanager
def _claiming(out: Path) -> Iterator[None]:
    """Alone with the note."""
    handle = lock(out, f"another process is raising a retraining run in {out}", f"{RAISED}.lock")
    try:
        yield
    finally:
        os.close(handle)


def write_data(experiment: ExperimentFolder, day: date, out: Path) -> Path:
    """Write what is known by the end of `day` as a folder of the data contract: history, the log's
    engagements, items.

    The engagements keep the arm that their user was in, so that whoever trains on them can tell.
    Returns `out`.
    """
    log = experiment.logged()
    end = datetime.combine(day + timedelta(days=1), time(), UTC)
    events = once(log.engagements)
    events = events.filter(events.timestamp < ibis.literal(end), possible(events))
    # Each engagement with its user's arm, which the log has with the exposures alone.
    of_users = log.exposures.filter(log.exposures.user_id.notnull())
    arms = of_users.group_by("user_id").agg(arm=ibis._.arm.min())
    columns = [column.name for column in INTERACTIONS if column.name != "arm"]
    events = events.left_join(arms, "user_id").select(*columns, "arm")
    before = read_parquet(experiment.history)
    engaged = events.to_pyarrow()
    folder = str(experiment.folder)
    parts = [conform(part, INTERACTIONS, folder) for part in (before, engaged) if len(part)]
    items = conform(read_parquet(experiment.items), ITEMS, str(experiment.items))
    write_parquet(pa.concat_tables(parts).sort_by("timestamp"), out / "interactions.parquet")
    write_parquet(items, out / "items.parquet")
    return out
