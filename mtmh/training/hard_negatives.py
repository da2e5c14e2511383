"""Whose neighbourhood hard negatives come from: an item's nearest known items by content."""

import numpy as np

from mtmh.ragged import Ragged
from mtmh.retrieval.index import build_index, search

NEIGHBOURS = 100
MIN_RECALL = 0.95  # of the index against exact search; a neighbour missed is a negative less hard, no error
ROWS_AT_ONCE = 1 << 14


def content_neighbours(content: np.ndarray, known: np.ndarray, seed: int) -> Ragged:
    """The NEIGHBOURS nearest of each known item with content, among such items, without itself.

    An item that T1 does not know is nobody's neighbour: as a negative it would only teach the model what all unknown
    items share. Arguments: `content` float32 [items, c], unit rows, zero for an item without content; `known` bool
    [items]. Returns a row an item, int32 and ascending, so that what is drawn from a neighbourhood does not depend on
    how near neighbours were told apart.
    """
    those = np.flatnonzero(known & content.any(axis=1)).astype(np.int32)
    k = min(NEIGHBOURS, len(those) - 1)
    if k < 1:
        return Ragged.of_lengths(np.zeros(len(content), np.int64), those[:0])
    vectors = content[those]
    index, _ = build_index(vectors, k, MIN_RECALL, seed)
    near = np.empty((len(those), k), np.int32)
    for start in range(0, len(those), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(those)))
        near[rows] = search(index, vectors, rows, k)[0]
    near.sort(axis=1)
    found = near >= 0  # a probed cluster may hold fewer than k
    size = np.zeros(len(content), np.int64)
    size[those] = found.sum(axis=1)
    return Ragged.of_lengths(size, those[near[found]])
