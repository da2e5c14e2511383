"""Data folders and their rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.small_log import MakeFolder, Rows, small_tables

from mtmh.data.files import write_parquet


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write small tables, with some of them (or some of their columns) replaced, and return the
    folder.
    """

    def make(
        interactions: dict[str, pa.Array] | pa.Table | None = None,
        items: dict | pa.Table | None = None,
    ) -> Path:
        tables = small_tables()
        for name, change in (("interactions", interactions), ("items", items)):
            if isinstance(change, pa.Table):
                tables[name] = change
            for column, values in change.items() if isinstance(change, dict) else ():
                position = tables[name].column_names.index(column)
                tables[name] = tables[name].set_column(position, column, values)
            write_parquet(tables[name], tmp_path / "source" / f"{name}.parquet")
        return tmp_path / "source"

    return make


@pytest.fixture
def rows() -> Rows:
    """The rows of a Parquet file."""
    return lambda path: pq.read_table(path).to_pylist()
