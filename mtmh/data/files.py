"""Writing files so that an interrupted run leaves none of them half-written: a temporary name
first, then a rename.
"""

import json
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from ibis.expr.types import Table


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it takes the place of
    `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def write_relation(table: "Table", path: Path) -> None:
    """Write what an Ibis expression gives, whole or not at all; what it reads must be named by
    absolute paths.

    The engine is given a bare file name: it pastes the path into SQL, which no quote in a folder's
    name survives.
    """
    with replacing(path.resolve()) as temporary, chdir(temporary.parent):
        table.to_parquet(temporary.name)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON object, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
