"""Examples for a sequential model, a batch a cluster: each item of a history is to be told from
others of its own cluster by what the user engaged with before it (paper.md section 8).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtmh.data.clusters import Clusters
from mtmh.ragged import Ragged, ranges


@dataclass(frozen=True)
class SequenceBatch:
    """B examples of one cluster among P distinct columns, all of that cluster; an example is what
    comes after one of S sequences, or after one of its items."""

    past: Tensor  # int64 [S, length], oldest first and right-aligned, -1 before the first
    cluster: Tensor  # int64 [S], all the same
    columns: Tensor  # int64 [P], distinct items
    positive: Tensor  # int64 [B], columns
    log_count: Tensor  # float32 [P], log of how often a column was drawn
    log_q: Tensor  # float32 [P], log of the cluster's mixture that columns were drawn from
    # Accidental hits, int64 [hits]: columns that the row's user engaged with, save the positive.
    hit_row: Tensor
    hit_column: Tensor
    # Int64 [B], the item of [S * length] that an example comes after; None: the last of each.
    after: Tensor | None = None


class ClusterSequences:
    """Draws shuffled batches of one cluster with in-batch and uniform negatives of it.

    Arguments: `history`, distinct items of each user, newest first, as `Prepared.train_histories`
    gives them; `clusters` of the catalog (a single one makes it an ordinary sampler); `negatives`
    uniform ones a batch, over the cluster's items that anyone engaged with; `length` the most items
    of a past. The first item of a history has no past and is no example. Order and draws of an
    epoch depend on `seed` and its number alone.
    """

    def __init__(
        self,
        history: Ragged,
        clusters: Clusters,
        batch_size: int,
        negatives: int,
        length: int,
        seed: int,
    ) -> None:
        self.history, self.clusters = history, clusters
        self.batch_size, self.negatives, self.length, self.seed = (
            batch_size,
            negatives,
            length,
            seed,
        )
        self.user = history.row_of
        self.end = history.indptr[1:][self.user]
        # Newest first: an entry's past lies behind it, and the oldest entry has none.
        examples = np.flatnonzero(np.arange(len(history.values)) + 1 < self.end)
        of_example = clusters.of_item[history.values[examples]]
        self.examples = [examples[of_example == k] for k in range(clusters.count)]
        engaged = np.unique(history.values)
        self.engaged = [np.intersect1d(engaged, clusters.items(k)) for k in range(clusters.count)]
        self.log_q = self._mixture()

    @property
    def n_examples(self) -> int:
        """Of an epoch."""
        return sum(map(len, self.examples))

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """Batches of epoch `number` (from 0)."""
        rng = np.random.default_rng((self.seed, number))
        tasks = []
        for cluster, examples in enumerate(self.examples):
            order = rng.permutation(examples)
            starts = range(0, len(order), self.batch_size)
            tasks += [(cluster, order[start : start + self.batch_size]) for start in starts]
        for number_of_task in rng.permutation(len(tasks)):
            cluster, rows = tasks[number_of_task]
            yield self._batch(cluster, rows, rng)

    def _mixture(self) -> np.ndarray:
        """Float32 [items], log Q within each item's own cluster; a floor where nothing is drawn."""
        q = np.full(len(self.clusters.of_item), 1e-12)
        share = self.batch_size / (self.batch_size + self.negatives)
        for examples, engaged in zip(self.examples, self.engaged, strict=True):
            positives = self.history.values[examples]
            np.add.at(q, positives, share / max(len(examples), 1))
            q[engaged] += (1 - share) / max(len(engaged), 1)
        return np.log(q).astype(np.float32)

    def _batch(self, cluster: int, rows: np.ndarray, rng: np.random.Generator) -> SequenceBatch:
        values = self.history.values
        uniform = rng.choice(self.engaged[cluster], self.negatives)
        seen = self.history.take(self.user[rows])
        past = ranges(rows + 1, np.minimum(rows + 1 + self.length, self.end[rows]))
        return SequenceBatch(
            past=torch.from_numpy(right_aligned(past.row_of, past, values, self.length)),
            cluster=torch.full((len(rows),), cluster),
            **drawn_columns(values[rows], uniform, seen, self.log_q),
        )


def drawn_columns(
    positives: np.ndarray, uniform: np.ndarray, seen: Ragged, log_q: np.ndarray
) -> dict[str, Tensor]:
    """The columns of a `SequenceBatch` and what it says of them: positives int [B] and uniform
    negatives int [n], each item once; `seen`, a row an example, are the accidental hits among
    them."""
    drawn = np.concatenate([positives, uniform])
    columns, column_of, count = np.unique(drawn, return_inverse=True, return_counts=True)
    positive = column_of[: len(positives)]
    # Accidental hits: columns that the user engaged with.
    column = np.minimum(np.searchsorted(columns, seen.values), len(columns) - 1)
    is_hit = (columns[column] == seen.values) & (column != positive[seen.row_of])
    return {
        "columns": torch.from_numpy(columns.astype(np.int64)),
        "positive": torch.from_numpy(positive),
        "log_count": torch.from_numpy(np.log(count).astype(np.float32)),
        "log_q": torch.from_numpy(log_q[columns]),
        "hit_row": torch.from_numpy(seen.row_of[is_hit]),
        "hit_column": torch.from_numpy(column[is_hit]),
    }


def right_aligned(row: np.ndarray, places: Ragged, values: np.ndarray, length: int) -> np.ndarray:
    """Int64 [rows, length]: `values` at each row's `places`, newest first, as sequences that end
    with the newest; -1 before the oldest. `row` is `places.row_of`.
    """
    sequences = np.full((places.rows, length), -1, np.int64)
    sequences[row, length - 1 - places.position_of] = values[places.values]
    return sequences


def sequences_of(history: Ragged, length: int) -> np.ndarray:
    """The newest `length` items of each history, newest first, as `right_aligned` sequences."""
    newest = history.take(slice(None), length)
    places = Ragged(newest.indptr, np.arange(len(newest.values)))
    return right_aligned(newest.row_of, places, newest.values, length)
