"""Images of a data folder: read from files and archives, and noticed by the fingerprint when they
change.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pytest
from helpers.small_log import MakeFolder

from mtmh.data import images, importers
from mtmh.data.files import write_parquet
from mtmh.data.images import open_images


def test_files_and_members_of_an_archive_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a" / "odd.zip").mkdir(parents=True)  # a folder of that name is no archive
    (tmp_path / "a" / "odd.zip" / "one.png").write_bytes(b"file")
    with ZipFile(tmp_path / "a" / "two.zip", "w") as archive:
        archive.writestr("deep/two.png", b"member")
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    with open_images(tmp_path) as read:
        assert read("a/odd.zip/one.png") == b"file"
        assert read("a/two.zip/deep/two.png") == b"member"
        for path in ("a/none.png", "a/two.zip/none.png", "none.zip/one.png"):
            with pytest.raises(FileNotFoundError):
                read(path)
        with pytest.raises(BadZipFile):
            read("broken.zip/one.png")


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    content = {f"{number}.png": bytes([number]) * 5000 for number in range(200)}
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with open_images(tmp_path) as read, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: read(f"all.zip/{name}"), content)) == list(
            content.values()
        )


def test_the_fingerprint_notices_images_that_come_go_and_change(make_folder: MakeFolder) -> None:
    folder = make_folder()
    plain = importers.fingerprint(folder)
    assert images.fingerprint(folder) == b""
    long = 300 * "x"  # longer than the name of a file may be
    items = pa.table(
        {"item_id": ["i0", "i1", "i2", "i3"], "image_path": ["a.png", "b.zip/x.png", None, long]}
    )
    write_parquet(items, folder / "items.parquet")
    seen = [plain, importers.fingerprint(folder)]
    with open_images(folder) as read, pytest.raises(OSError, match="name too long"):
        read(long)
    (folder / "a.png").write_bytes(b"one")
    seen.append(importers.fingerprint(folder))
    (folder / "b.zip").write_bytes(b"archive")
    seen.append(importers.fingerprint(folder))
    (folder / "a.png").write_bytes(b"other")
    seen.append(importers.fingerprint(folder))
    assert len(set(seen)) == 5
    (folder / "notes.png").write_bytes(b"no item's image")
    assert importers.fingerprint(folder) == seen[-1]
