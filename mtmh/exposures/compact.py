"""Finished segments become Parquet, each record exactly once.

    OUT/exposures/day=2026-03-01/BATCH.parquet      one row a candidate shown
    OUT/engagements/day=2026-03-01/BATCH.parquet    one row an event
    OUT/rejected/BATCH.parquet                      what could not be read, with its reason
    OUT/batches/BATCH.json                          its segments' names, and how many rows it has

A batch counts from the moment that its BATCH.json is there: before, its segments are the truth, and
its Parquet files are leftovers of a compaction that was killed, which the next one removes; after,
its Parquet files are, and segments of it that are still there are the leftovers. Everything is on
disk before that moment. `mtmh.exposures.read` reads by this rule. Whole days may be deleted.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.errors import UserError
from mtmh.exposures.log import LOCK, lock
from mtmh.exposures.segment import CLOSED, OPEN, TORN, make_folder, recover, sync_folder
from mtmh.exposures.tables import LogTables, read_segment

TABLES = ("exposures", "engagements")


@dataclass(frozen=True)
class Compacted:
    """What one compaction did."""

    segments: int
    exposures: int  # rows
    engagements: int
    rejected: int


def compact(directory: Path, out: Path, batch_bytes: int = 64 * 2**20) -> Compacted:
    """Turn the finished segments below `directory` into Parquet below `out`, and remove them.

    A segment that a process is writing stays; one that a killed process left is finished first.
    Late records are filed under their day. Can be killed at any moment and run again. `batch_bytes`
    of segments make one batch.

    Raises UserError when there is no such directory, or another compaction works on `out`.
    """
    if not directory.is_dir():
        raise UserError(
            f"log {directory}: no such folder. Give the folder that the router writes "
            "(log.directory)."
        )
    if directory.resolve() == out.resolve():
        raise UserError(
            f"{out} is the log itself. Give another folder for the tables, say {out / 'tables'}."
        )
    for folder in (out / "batches", out / "rejected", *(out / name for name in TABLES)):
        make_folder(folder)
    with _alone(out), _alone(directory):
        finish_killed(directory)
        # What a killed compaction left: segments that count in a batch, files of no batch.
        done = committed(out)
        _remove([path for path in finished(directory) if key(path) in done.segments])
        files = [path for name in TABLES for path in (out / name).glob("day=*/*")]
        files += [*(out / "rejected").iterdir(), *(out / "batches").glob("*.draft")]
        _remove(
            [path for path in files if path.suffix != ".parquet" or path.stem not in done.batches]
        )
        segments = finished(directory)
        counts = {"exposures": 0, "engagements": 0, "rejected": 0}
        for paths in _batches(segments, batch_bytes):
            tables = LogTables.concat(
                [
                    read_segment(str(path.relative_to(directory)), path.read_bytes())
                    for path in paths
                ]
            )
            write_batch(out, tables, [key(path) for path in paths])
            _remove(paths)
            for name in counts:
                counts[name] += getattr(tables, name).num_rows
        return Compacted(len(segments), **counts)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    busy = f"another compaction is at work on {folder}. Wait until it has finished"
    handle = lock(folder, busy, "compaction")
    try:
        yield
    finally:
        os.close(handle)


def write_batch(out: Path, tables: LogTables, segments: list[str]) -> None:
    """Add tables to `out`, all of them or none; `segments` are the keys of those that they come
    from.
    """
    batch = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:12]}"
    for name in TABLES:
        table = getattr(tables, name)
        for day in pc.unique(table["day"]).sort().to_pylist():
            folder = out / name / f"day={day}"
            make_folder(folder)
            rows = table.filter(pc.equal(table["day"], day)).drop_columns("day")
            _write(rows, folder / f"{batch}.parquet")
    if tables.rejected.num_rows:
        _write(tables.rejected, out / "rejected" / f"{batch}.parquet")
    rows = {name: getattr(tables, name).num_rows for name in (*TABLES, "rejected")}
    # The batch counts from the rename on; everything else is on disk by then.
    draft = out / "batches" / f"{batch}.draft"
    with draft.open("w") as stream:
        stream.write(json.dumps({"segments": segments, "rows": rows}, indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(draft.with_suffix(".json"))
    sync_folder(draft.parent)


@dataclass(frozen=True)
class Committed:
    """What `out` holds: the names of its batches and the keys of the segments in them."""

    batches: frozenset[str]
    segments: frozenset[str]


def committed(out: Path) -> Committed:
    """Read what counts."""
    manifests = sorted((out / "batches").glob("*.json"))
    segments = [key for path in manifests for key in json.loads(path.read_text())["segments"]]
    return Committed(frozenset(path.stem for path in manifests), frozenset(segments))


def key(segment: Path) -> str:
    """The name of a segment by which it counts as compacted: the same while it is written and when
    it is finished.
    """
    return segment.name if segment.suffix == TORN else segment.stem


def finished(directory: Path) -> list[Path]:
    """Finished segments and torn tails, in order of time."""
    return sorted(
        (path for suffix in (CLOSED, TORN) for path in directory.rglob(f"*{suffix}")), key=key
    )


def finish_killed(directory: Path) -> None:
    """Finish the segments that nobody is writing any more."""
    for folder in sorted({path.parent for path in directory.rglob(f"*{OPEN}")}):
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            recover(folder)
        except BlockingIOError:
            continue  # its writer lives
        finally:
            os.close(handle)


def _batches(segments: list[Path], most: int) -> Iterator[list[Path]]:
    """Groups of at least one segment and, but for that, at most `most` bytes."""
    batch: list[Path] = []
    size = 0
    for path in segments:
        more = path.stat().st_size
        if batch and size + more > most:
            yield batch
            batch = []
            size = 0
        batch.append(path)
        size += more
    if batch:
        yield batch


def _write(table: pa.Table, path: Path) -> None:
    with path.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()
    for folder in sorted({path.parent for path in paths}):
        sync_folder(folder)
