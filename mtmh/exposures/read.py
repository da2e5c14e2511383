"""The log as two tables, wherever its rows are just now: in Parquet, in finished segments or in one
being written.
"""

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


@dataclass(frozen=True)
class LogRelations:
    """Relations over everything that was logged, each row once, in the schemas of records.py.

    An engagement that was sent twice is two rows: `relations.once` makes one of them; exposures of
    log_version 1 get their exposure_id by `relations.identified`.
    """

    exposures: "ibis.Table"
    engagements: "ibis.Table"
    rejected: pa.Table  # tables.REJECTED: what could not be read; nothing is left out in silence

    @classmethod
    def over(cls, live: LogTables, out: Path, batches: frozenset[str]) -> "LogRelations":
        """Relations over the rows of `live`, which stay in memory, and of the batches in `out`."""
        import duckdb
        import ibis

        connection = duckdb.connect()
        connection.execute("set timezone = 'UTC'")
        connection.register("live_exposures", live.exposures)
        connection.register("live_engagements", live.engagements)
        backend = ibis.duckdb.from_connection(connection)
        relations = []
        for name, schema in (("exposures", EXPOSURES), ("engagements", ENGAGEMENTS)):
            rows = backend.table(f"live_{name}").select(schema.names)
            paths = sorted((out / name).glob("day=*/*.parquet"))
            if files := [str(path) for path in paths if path.stem in batches]:
                # With `day` as a date, from the names of the folders.
                compacted = backend.read_parquet(files, hive_partitioning=True, union_by_name=True)
                # Tables of an earlier log_version lack columns of later ones: null there.
                lacking = {
                    column: ibis.null(kind)
                    for column, kind in rows.schema().items()
                    if column not in compacted.columns
                }
                rows = compacted.mutate(**lacking).select(rows.columns).union(rows)
            relations.append(rows)
        rejected = [
            pq.read_table(path, schema=REJECTED)
            for path in sorted((out / "rejected").glob("*.parquet"))
            if path.stem in batches
        ]
        return cls(relations[0], relations[1], pa.concat_tables([*rejected, live.rejected]))


def read(directory: Path, out: Path) -> LogRelations:
    """What was appended below `directory`, compacted to `out` or not: tables of one DuckDB in this
    process, in UTC.

    Parquet is read when a query needs it, and of it only the columns and days that it needs; what
    is not compacted yet is held in memory. Writers and a compaction may be at work meanwhile: the
    answer has every row that was there when `read` began, and no row twice.

    Raises UserError when neither folder is there, or a segment vanished that nobody compacted.
    """
    if not directory.is_dir() and not out.is_dir():
        raise UserError(f"no log: there is neither a folder {directory} nor {out}.")
    # A file that is renamed while a folder is listed may be missed: so list until nothing changes.
    before: list[Path] = []
    while (segments := sorted(_listed(directory), key=key)) != before:
        before = segments
    live = {key(path): _tables(path, directory) for path in segments}
    # After the segments: what a compaction removed meanwhile is in here.
    compacted = committed(out)
    waiting = {name: tables for name, tables in live.items() if name not in compacted.segments}
    if lost := [name for name, tables in waiting.items() if tables is None]:
        raise UserError(
            f"{len(lost)} segments vanished from {directory} and are not in {out}, such as "
            f"{lost[0]}."
        )
    rest = LogTables.concat([tables for tables in waiting.values() if tables is not None])
    return LogRelations.over(rest, out, compacted.batches)


def _listed(directory: Path) -> list[Path]:
    return [path for suffix in (OPEN, CLOSED, TORN) for path in directory.rglob(f"*{suffix}")]


def _tables(path: Path, directory: Path) -> LogTables | None:
    """The rows of a segment; None when a finished one was removed since it was listed."""
    is_open = path.suffix == OPEN
    paths = [path, path.with_suffix(CLOSED)] if is_open else [path]  # it may be finished meanwhile
    for current in paths:
        try:
            data = current.read_bytes()
        except FileNotFoundError:
            continue
        name = str(current.relative_to(directory))
        return read_segment(name, data, finished=current.suffix != OPEN)
    # An open one was compacted since, or nothing in it was ever acknowledged.
    return LogTables.concat([]) if is_open else None
