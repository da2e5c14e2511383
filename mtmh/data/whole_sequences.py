"""Whole histories as examples of a sequential model: after each item of a sequence the next one is
to be told from the batch's columns, as SASRec trains (Kang and McAuley 2018, section 3.5).
"""

from collections.abc import Iterator

import numpy as np
import torch

from mtmh.data.cluster_sequences import SequenceBatch, drawn_columns, right_aligned
from mtmh.data.clusters import Clusters
from mtmh.ragged import Ragged, ranges


class WholeSequences:
    """Draws shuffled batches of histories with in-batch and uniform negatives of the catalog.

    Arguments: `history`, distinct items of each user, newest first, as `Prepared.train_histories`
    gives them, of which the newest `length` + 1 are read; a history of one item is no example.
    `batch_size` histories and `negatives` uniform ones a batch, over the items that anyone engaged
    with. Order and draws of an epoch depend on `seed` and its number alone.
    """

    def __init__(
        self,
        history: Ragged,
        n_items: int,
        batch_size: int,
        negatives: int,
        length: int,
        seed: int,
    ) -> None:
        self.clusters = Clusters.of(np.zeros(n_items, np.int64))  # the whole catalog is one
        self.history, self.batch_size, self.negatives, self.length, self.seed = (
            history,
            batch_size,
            negatives,
            length,
            seed,
        )
        self.users = np.flatnonzero(history.lengths > 1)
        self.targets = np.minimum(history.lengths[self.users] - 1, length)  # of each of them
        self.engaged = np.unique(history.values)
        self.log_q = self._mixture()

    @property
    def n_examples(self) -> int:
        """Of an epoch."""
        return int(self.targets.sum())

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """Batches of epoch `number` (from 0)."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.users))
        for start in range(0, len(order), self.batch_size):
            yield self._batch(order[start : start + self.batch_size], rng)

    def _mixture(self) -> np.ndarray:
        """Float32 [items], log Q of the mixture that columns are drawn from; a floor where nothing
        is."""
        newest = self.history.indptr[:-1][self.users]
        positives = self.history.values[ranges(newest, newest + self.targets).values]
        in_batch = self.batch_size * self.targets.mean() if len(self.users) else 0.0
        share = in_batch / (in_batch + self.negatives)
        q = np.full(len(self.clusters.of_item), 1e-12)
        np.add.at(q, positives, share / max(len(positives), 1))
        q[self.engaged] += (1 - share) / max(len(self.engaged), 1)
        return np.log(q).astype(np.float32)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> SequenceBatch:
        users, targets, values = self.users[rows], self.targets[rows], self.history.values
        newest = self.history.indptr[:-1][users]
        # Newest first: each target stands right before the item that it comes after.
        past, target = ranges(newest + 1, newest + 1 + targets), ranges(newest, newest + targets)
        seen = self.history.take(np.repeat(users, targets))
        uniform = self.engaged[rng.integers(0, len(self.engaged), self.negatives)]
        after = past.row_of * self.length + self.length - 1 - past.position_of
        return SequenceBatch(
            past=torch.from_numpy(right_aligned(past.row_of, past, values, self.length)),
            cluster=torch.zeros(len(users), dtype=torch.int64),
            **drawn_columns(values[target.values], uniform, seen, self.log_q),
            after=torch.from_numpy(after),
        )
