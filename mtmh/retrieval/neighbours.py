"""The nearest items of T1 by content: hard negatives are drawn from these."""

from pathlib import Path

import numpy as np

from mtmh.data.prepared import Prepared
from mtmh.ragged import Ragged
from mtmh.retrieval.index import build_index, search

NEIGHBOURS = 100
MIN_RECALL = 0.95  # against exact search: a missed neighbour is only a hard negative less
ROWS_AT_ONCE = 1 << 14  # queries of one search


def stage_neighbours(prepared: Path, content: Path, seed: int) -> Ragged:
    """`content_neighbours` of the stages' folders `prepared` and `content`."""
    vectors = np.load(content / "content.npy")
    return content_neighbours(vectors, Prepared.load(prepared).in_train, seed)


def content_neighbours(content: np.ndarray, in_train: np.ndarray, seed: int) -> Ragged:
    """The NEIGHBOURS nearest of each item of T1 with content, among such items, without itself.

    An item that T1 does not know is nobody's neighbour: as a negative it would only teach the model
    what all unknown items share. Arguments: `content` float32 [items, c], unit rows, zero for an
    item without content; `in_train` bool [items]. Returns a row an item, int32 and ascending, so
    that what is drawn from a neighbourhood does not depend on the order of near neighbours.
    """
    items = np.flatnonzero(in_train & content.any(axis=1)).astype(np.int32)
    k = min(NEIGHBOURS, len(items) - 1)
    if k < 1:
        return Ragged.of_lengths(np.zeros(len(content), np.int64), items[:0])
    # An approximate index, in blocks: exact search is quadratic in the items.
    vectors = content[items]
    index, _ = build_index(vectors, k, MIN_RECALL, seed)
    near = np.empty((len(items), k), np.int32)
    for start in range(0, len(items), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(items)))
        near[rows] = search(index, vectors, rows, k)[0]
    # Ascending, whatever the order in which a search names them.
    near.sort(axis=1)
    is_neighbour = near >= 0  # a probed cluster may hold fewer than k
    size = np.zeros(len(content), np.int64)
    size[items] = is_neighbour.sum(axis=1)
    return Ragged.of_lengths(size, items[near[is_neighbour]])
