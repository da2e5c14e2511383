"""The log as two tables, wherever its rows are just now: in Parquet, in finished segments or in one being written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.errors import UserError
from mtmh.exposures.compact import committed, key
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES
from mtmh.exposures.segment import CLOSED, OPEN, TORN
from mtmh.exposures.tables import REJECTED, LogTables, read_segment

if TYPE_CHECKING:
    import ibis
    from ibis.backends.duckdb import Backend


@dataclass(frozen=True)
class LogRelations:
    """Relations over everything that was logged, each row once, in the schemas of records.py.

    An engagement that was sent twice is two rows: `relations.once` makes one of them; exposures of log_version 1 get
    their exposure_id by `relations.identified`.
    """

    exposures: "ibis.Table"
    engagements: "ibis.Table"
    rejected: pa.Table  # tables.REJECTED: what could not be read; nothing is left out in silence


def read(directory: Path, out: Path) -> LogRelations:
    """What was appended below `directory`, compacted to `out` or not: tables of one DuckDB in this process, in UTC.

    Parquet is read when a query needs it, and of it only the columns and days that it needs; what is not compacted yet
    is held in memory. Writers and a compaction may be at work meanwhile: the answer has every row that was there when
    `read` began, and no row twice.

    Raises UserError when neither folder is there, or a segment vanished that nobody compacted.
    """
    import duckdb
    import ibis

    if not directory.is_dir() and not out.is_dir():
        raise UserError(f"no log: there is neither a folder {directory} nor {out}.")
    live = {key(path): _tables(path, directory) for path in _segments(directory)}
    done = committed(out)  # after the segments were read, so that one which a compaction removed meanwhile is in here
    if lost := [name for name, tables in live.items() if tables is None and name not in done.segments]:
        raise UserError(f"{len(lost)} segments vanished from {directory} and are not in {out}, such as {lost[0]}.")
    rest = LogTables.concat(
        [tables for name, tables in live.items() if tables is not None and name not in done.segments]
    )
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.register("live_exposures", rest.exposures)
    connection.register("live_engagements", rest.engagements)
    backend = ibis.duckdb.from_connection(connection)
    relations = [
        _with_parquet(backend, f"live_{name}", out / name, schema, done.batches)
        for name, schema in (("exposures", EXPOSURES), ("engagements", ENGAGEMENTS))
    ]
    rejected = [path for path in sorted((out / "rejected").glob("*.parquet")) if path.stem in done.batches]
    aside = pa.concat_tables([*(pq.read_table(path, schema=REJECTED) for path in rejected), rest.rejected])
    return LogRelations(relations[0], relations[1], aside)


def _with_parquet(
    backend: "Backend", live: str, folder: Path, schema: pa.Schema, batches: frozenset[str]
) -> "ibis.Table":
    import ibis

    files = [str(path) for path in sorted(folder.glob("day=*/*.parquet")) if path.stem in batches]
    rows = backend.table(live).select(schema.names)
    if not files:
        return rows
    compacted = backend.read_parquet(files, hive_partitioning=True, union_by_name=True)  # `day` as a date
    # LogTables of an earlier log_version lack columns of later ones: null there.
    lacking = {name: kind for name, kind in rows.schema().items() if name not in compacted.columns}
    compacted = compacted.mutate(**{name: ibis.null(kind) for name, kind in lacking.items()})
    return compacted.select(schema.names).union(rows)


def _segments(directory: Path) -> list[Path]:
    """All segments. A file that is renamed while a folder is listed may be missed: so list until nothing changes."""
    before: list[Path] = []
    while (now := sorted(_listed(directory), key=key)) != before:
        before = now
    return now


def _listed(directory: Path) -> Iterator[Path]:
    for suffix in (OPEN, CLOSED, TORN):
        yield from directory.rglob(f"*{suffix}")


def _tables(path: Path, directory: Path) -> LogTables | None:
    """The rows of a segment; None when a finished one was removed since it was listed."""
    writing = path.suffix == OPEN
    for place in (path, path.with_suffix(CLOSED)) if writing else (path,):  # it may have been finished meanwhile
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            continue
        return read_segment(str(place.relative_to(directory)), data, finished=place.suffix != OPEN)
    return LogTables.concat([]) if writing else None  # compacted since, or nothing in it was ever acknowledged
