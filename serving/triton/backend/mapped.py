"""What a model reads of its files, mapped and never copied: the pages are the page cache's, one
copy for all processes that serve a file, and the kernel may drop and read them again.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    """Each <name>.npy of `folder` by its name, read-only."""
    return {
        path.name.removesuffix(".npy"): np.asarray(np.load(path, mmap_mode="r"))
        for path in folder.glob("*.npy")
    }


def index_of(path: Path) -> faiss.Index:
    """A Faiss index whose vectors stay in its file; flat and IVF ones can be searched so."""
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def id_hashes(item_ids: Iterable[bytes]) -> np.ndarray:
    """A 64-bit hash of each id, uint64 [ids]."""
    digests = [hashlib.blake2b(item_id, digest_size=8).digest() for item_id in item_ids]
    return np.frombuffer(b"".join(digests), "<u8")


class ItemRows:
    """The row of an item by its id, in 12 bytes an item: a dict would take some 150, and each
    process its own.

    `hashes` uint64 [items], the `id_hashes` of all ids, ascending and distinct; `rows` int32
    [items], in the same order. An id that is not there passes for another once in 2^64 / items.
    """

    def __init__(self, hashes: np.ndarray, rows: np.ndarray) -> None:
        self.hashes, self.rows = hashes, rows

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, item_ids: Iterable[bytes]) -> np.ndarray:
        """int64 [ids], -1 for an id that is not there."""
        hashes = id_hashes(item_ids)
        slots = np.minimum(np.searchsorted(self.hashes, hashes), len(self) - 1)
        return np.where(self.hashes[slots] == hashes, self.rows[slots], -1)
