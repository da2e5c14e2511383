"""Rows of different lengths in two arrays: histories, triggers, targets, neighbours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ragged(NamedTuple):
    """Row r is `values[indptr[r] : indptr[r + 1]]`; the form of scipy's CSR matrices."""

    indptr: np.ndarray  # int64 [rows + 1], from 0, rising
    values: np.ndarray  # [indptr[-1]]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int] | np.ndarray]) -> "Ragged":
        """From one sequence of integers a row; the values are int32."""
        values = np.concatenate(
            [np.asarray(row, np.int32) for row in rows] or [np.zeros(0, np.int32)]
        )
        return cls.of_lengths(np.array([len(row) for row in rows], np.int64), values)

    @classmethod
    def of_lengths(cls, lengths: np.ndarray, values: np.ndarray) -> "Ragged":
        """From the values of all rows, one after the other, and int [rows], how
        many are each row's.
        """
        return cls(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), values)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Values of each row, int64 [rows]."""
        return np.diff(self.indptr)

    @property
    def row_of(self) -> np.ndarray:
        """The row of each value, int64 [values]."""
        return np.repeat(np.arange(self.rows), self.lengths)

    @property
    def position_of(self) -> np.ndarray:
        """Each value's position in its row, from 0, int64 [values]."""
        return np.arange(len(self.values)) - np.repeat(self.indptr[:-1], self.lengths)

    def take(self, rows: np.ndarray | slice, most: int | None = None) -> "Ragged":
        """The first `most` values of the given rows (all of them by default)."""
        # Ranges of the values, cut after `most` of each.
        start, end = self.indptr[:-1][rows], self.indptr[1:][rows]
        if most is not None:
            end = np.minimum(end, start + most)
        return Ragged.of_lengths(end - start, self.values[ranges(start, end).values])

    def where(self, chosen: np.ndarray) -> "Ragged":
        """The same rows with the chosen values alone, bool [values]."""
        # How many chosen values come before each: where the rows begin among the chosen.
        before = np.concatenate([[0], np.cumsum(chosen)])
        return Ragged(before[self.indptr], self.values[chosen])

    def sorted(self) -> "Ragged":
        """The same rows, each ascending."""
        return Ragged(self.indptr, self.values[np.lexsort((self.values, self.row_of))])


def ranges(start: np.ndarray, end: np.ndarray) -> Ragged:
    """One row an integer range [start, end), int64; both int [rows]."""
    lengths = end - start
    first = np.cumsum(lengths) - lengths  # of each row among all values
    values = np.arange(lengths.sum()) + np.repeat(start - first, lengths)
    return Ragged.of_lengths(lengths, values)
