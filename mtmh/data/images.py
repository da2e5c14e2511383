"""The items' images: files under the data folder, or members of a zip archive in it, read without
unpacking.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

# Unlike Path.is_file, False and no error for a name that is too long.
from os.path import (
    getsize,
    isfile,
)
from pathlib import Path
from threading import Lock
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.data import contract


@contextmanager
def open_images(root: Path) -> Iterator[Callable[[str], bytes]]:
    """A function from an `image_path` to the file's bytes, for any number of threads.

    A path is relative to `root`; "posters.zip/a/7.jpg" is the member a/7.jpg of the archive
    posters.zip. The function raises FileNotFoundError when there is no such file or member, and
    OSError or BadZipFile when it cannot be read.
    """
    archives: dict[str, ZipFile] = {}
    lock = Lock()  # an archive is one file with one reading position
    with ExitStack() as opened:

        def read(path: str) -> bytes:
            file, member = _archive_member(root, path)
            if member is None:
                # A file of its own needs no lock.
                return (root / file).read_bytes()
            with lock:
                # Opened when its first image is wanted, closed with the others at the end.
                if file not in archives:
                    archives[file] = opened.enter_context(ZipFile(root / file))
                # ZipFile's own KeyError would be no missing file to the caller.
                if member not in archives[file].NameToInfo:
                    raise FileNotFoundError(f"{file} has no member {member}")
                return archives[file].read(member)

        yield read


def fingerprint(folder: Path) -> bytes:
    """Sha256 over names and sizes of the images that items.parquet names; b"" where it names none.

    Sizes, not content: images may be larger than everything else together. An image that was
    overwritten with another of the same size is therefore not noticed.
    """
    try:
        column = pq.read_table(folder / "items.parquet", columns=["image_path"])["image_path"]
    except (OSError, KeyError, pa.ArrowException):
        # No such file or column; what is wrong with one, the checks say.
        return b""
    if not contract.accepts(pa.string(), column.type) or column.null_count == len(column):
        return b""
    digest = hashlib.sha256()
    paths = [
        path.decode(errors="replace") for path in column.drop_null().cast(pa.binary()).to_pylist()
    ]
    for file in sorted({_archive_member(folder, path)[0] for path in paths}):
        size = getsize(folder / file) if isfile(folder / file) else "absent"
        digest.update(f"{file} {size}\n".encode())
    return digest.digest()


def _archive_member(root: Path, path: str) -> tuple[str, str | None]:
    """The file to open, relative to `root`, and the member to read of it when it is an archive."""
    before, inside, member = path.partition(".zip/")
    return (f"{before}.zip", member) if inside and isfile(root / f"{before}.zip") else (path, None)
