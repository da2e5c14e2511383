"""What a form of data is: the files that make it, and what reading them gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

REASON = "reason"  # column of a reader's table: why the row could not be read, null where it could


@dataclass(frozen=True)
class Source:
    """Tables as read, not yet checked. Keys of the dicts: interactions, items, concepts."""

    tables: dict[str, pa.Table]
    files: dict[str, str]  # where each table came from, for messages
    unreadable: dict[str, pa.Array] = field(default_factory=dict)  # reason per row, null = could be read
    as_written: frozenset[str] = frozenset()  # columns of the source's own text, for rejected rows alone


@dataclass(frozen=True)
class Form:
    """One form. `read` gets what `find` found, so the fingerprint covers exactly the files that are read."""

    name: str
    files: str  # the files that make it, for messages
    find: Callable[[Path], list[Path]]  # the files of a folder; empty where the folder is not in this form
    read: Callable[[list[Path]], Source]


def present(folder: Path, *patterns: str) -> list[Path]:
    """Files of the folder that match the patterns of `Path.glob`, in this order; empty unless each matches one."""
    found = [sorted(path for path in folder.glob(pattern) if path.is_file()) for pattern in patterns]
    return [path for paths in found for path in paths] if all(found) else []


def as_source(
    tables: dict[str, pa.Table], paths: dict[str, list[Path]], as_written: frozenset[str] = frozenset()
) -> Source:
    """A source from tables of which some have a column REASON; `paths` says which files each table came from."""
    unreadable = {name: table[REASON] for name, table in tables.items() if REASON in table.column_names}
    kept = {name: table.drop_columns([REASON]) if name in unreadable else table for name, table in tables.items()}
    files = {name: " + ".join(str(path) for path in read) for name, read in paths.items()}
    return Source(kept, files, unreadable, as_written)
