"""A full disk is one sentence, in whichever words a library reports it."""

import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mtmh.data.files import write_parquet
from mtmh.disk import explain_full_disk, full_disk_explained
from mtmh.errors import UserError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs the rights of root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_the_file_system_and_its_room_are_named_and_nothing_is_lost(small_disk: Path) -> None:
    write_parquet(pa.table({"a": [1]}), small_disk / "earlier.parquet")
    before = (small_disk / "earlier.parquet").read_bytes()
    large = pa.table({"a": pa.array(os.urandom(16) for _ in range(200_000))})
    with pytest.raises(UserError) as raised, full_disk_explained(small_disk):
        write_parquet(large, small_disk / "earlier.parquet")
    assert str(raised.value).startswith(f"the disk is full: {small_disk} ")
    assert "1.0 MB are free now. Nothing is lost" in str(raised.value)
    assert [path.name for path in small_disk.iterdir()] == ["earlier.parquet"]
    assert (small_disk / "earlier.parquet").read_bytes() == before


def test_a_database_on_a_full_disk(small_disk: Path) -> None:
    database = sqlite3.connect(small_disk / "some.db", isolation_level=None)
    database.execute("create table t (x blob)")
    with pytest.raises(UserError, match="the disk is full"), full_disk_explained(small_disk):
        database.execute("insert into t values (?)", [os.urandom(2_000_000)])
    database.close()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError(
            "Error in write_index: write error in x.faiss: 3 != 9 (No space left on device)"
        ),
        pa.ArrowException(
            "IOError: Error writing bytes to file. Detail: [errno 28] No space left on device"
        ),
    ],
)
def test_an_error_that_a_full_disk_led_to(error: Exception, tmp_path: Path) -> None:
    wrapped = RuntimeError("the step failed")
    wrapped.__cause__ = error
    assert explain_full_disk(wrapped, tmp_path) is not None


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    assert explain_full_disk(RuntimeError("write error of another kind"), tmp_path) is None
    with pytest.raises(FileNotFoundError), full_disk_explained(tmp_path):
        (tmp_path / "absent").read_bytes()
