"""Power cuts, on a real file system: what a copy of the disk's image holds is what a machine finds
that lost power.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.log_records import exposure

from mtmh.exposures.compact import compact
from mtmh.exposures.log import LogWriter
from mtmh.exposures.read import read


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """An image of ext4 as a folder. It writes by itself only every five minutes. Skips where that
    may not be.
    """
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-o", "loop,commit=300", str(image), str(place)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"may not mount a disk image here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4 here")
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(32 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
    return path


def found_after(cut: Path) -> list[str]:
    """The requests that a machine finds which starts again from this image."""
    with mounted(cut, cut.with_suffix(".again")) as place:
        if not (place / "logs").is_dir():
            return []
        ids = read(place / "logs", place / "tables").exposures.request_id.to_pyarrow().to_pylist()
        return sorted(ids)


def append_and_cut(disk: Path, image: Path) -> list[Path]:
    """Copies of the image after the first append, after a segment was full, and after some more."""
    cuts = []

    async def run() -> None:
        async with LogWriter(disk / "logs" / "router-0", segment_bytes=3000) as log:
            for number in range(9):
                await log.append([exposure(number, candidates=1)])
                if number % 4 == 0:
                    cuts.append(image.with_name(f"cut-{number}"))
                    shutil.copy(image, cuts[-1])

    asyncio.run(run())
    return cuts


def test_what_was_acknowledged_is_there_after_a_power_cut(image: Path, tmp_path: Path) -> None:
    with mounted(image, tmp_path / "mnt") as disk:
        cuts = append_and_cut(disk, image)
    for number, cut in zip((0, 4, 8), cuts, strict=True):
        assert found_after(cut) == [f"request-{before}" for before in range(number + 1)]


def test_without_fsync_it_would_not_be(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the test above can fail."""
    with mounted(image, tmp_path / "mnt") as disk, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        cuts = append_and_cut(disk, image)
    assert [found_after(cut) for cut in cuts] == [[], [], []]


def test_rows_whose_segments_are_gone_are_in_parquet_after_a_power_cut(
    image: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    with mounted(image, tmp_path / "mnt") as disk:
        append_and_cut(disk, image)
        assert compact(disk / "logs", disk / "tables").exposures == 9
        shutil.copy(image, cut)
    assert found_after(cut) == [f"request-{number}" for number in range(9)]
