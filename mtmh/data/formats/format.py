"""What a format of data is: the files that make it, and what reading them gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

REASON = "reason"  # column of a reader's table: why the row could not be read, null where it could


@dataclass(frozen=True)
class SourceTables:
    """Tables as read, not yet checked. Keys of the dicts: interactions, items, concepts."""

    tables: dict[str, pa.Table]
    files: dict[str, str]  # where each table came from, for messages
    unreadable: dict[str, pa.Array] = field(default_factory=dict)  # reason per row, null = read
    raw_columns: frozenset[str] = frozenset()  # the source's own text, for rejected rows alone


@dataclass(frozen=True)
class Format:
    """One format.

    `read` gets what `find` returned, so the fingerprint covers the files it reads.
    """

    name: str
    files: str  # the files that make it, for messages
    find: Callable[[Path], list[Path]]  # a folder's files; empty where it is not in this format
    read: Callable[[list[Path]], SourceTables]


def matching_files(folder: Path, *patterns: str) -> list[Path]:
    """Files of the folder that match the patterns of `Path.glob`, in this order.

    Empty unless every pattern matches a file.
    """
    matches = [sorted(path for path in folder.glob(name) if path.is_file()) for name in patterns]
    return [path for paths in matches for path in paths] if all(matches) else []


def source_tables(
    tables: dict[str, pa.Table],
    paths: dict[str, list[Path]],
    raw_columns: frozenset[str] = frozenset(),
) -> SourceTables:
    """A source from tables of which some have a column REASON, and the files behind every table."""
    unreadable, readable = {}, {}
    for name, table in tables.items():
        # The reasons travel beside the table: they are not one of its columns.
        if REASON in table.column_names:
            unreadable[name] = table[REASON]
            table = table.drop_columns([REASON])
        readable[name] = table
    files = {name: " + ".join(map(str, parts)) for name, parts in paths.items()}
    return SourceTables(readable, files, unreadable, raw_columns)
