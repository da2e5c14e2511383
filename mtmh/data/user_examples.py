"""Examples for a user-to-item model: each item of a history is to be told from what the user engaged with before it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtmh.ragged import Ragged, ranges


@dataclass(frozen=True)
class NextBatch:
    """One step's examples: B positives among P distinct columns (items), each with its user's past."""

    columns: Tensor  # int64 [P], distinct items
    positive: Tensor  # int64 [B], columns
    log_count: Tensor  # float32 [P], log of how often a column was drawn, which the positive's own logit does not take
    log_q: Tensor  # float32 [P], log of the mixture law that the columns were drawn from
    hit_row: Tensor  # int64 [hits], accidental hits: columns that the row's user engaged with in T1,
    hit_column: Tensor  # int64 [hits], save the positive
    past: Tensor  # int64 [H], distinct items of all the examples' histories
    event: Tensor  # int64 [E], places in `past`: an entry of one example's history each
    row: Tensor  # int64 [E], the example that the entry belongs to
    age: Tensor  # float32 [E], entries between it and the positive
    label: Tensor  # float32 [B], of the positive; NaN where it has none


class NextItems:
    """Draws shuffled examples with in-batch and uniform negatives.

    Arguments: `history`, distinct items of each user, newest first, as `Prepared.train_histories` gives them;
    `label` float32 [items of the histories]; `length`, the most entries of a past; `n_items` size of the catalog.
    Negatives are drawn over the items that anyone engaged with: what T1 does not know could only be learned as never
    wanted. The first item of a history has no past and is no example. Order and draws of an epoch depend on `seed` and
    its number alone.
    """

    def __init__(
        self, history: Ragged, label: np.ndarray, n_items: int, batch_size: int, negatives: int, length: int, seed: int
    ) -> None:
        self.history, self.items = history, history.values
        self.label, self.batch_size, self.negatives, self.length, self.seed = label, batch_size, negatives, length, seed
        self.user = history.row_of
        self.end = history.indptr[1:][self.user]
        self.examples = np.flatnonzero(np.arange(len(self.items)) + 1 < self.end)
        popularity = np.bincount(self.items, minlength=n_items)
        self.known = np.flatnonzero(popularity).astype(np.int32)
        positives = np.bincount(self.items[self.examples], minlength=n_items) / max(len(self.examples), 1)
        share = batch_size / (batch_size + negatives)
        law = share * positives + (1 - share) * (popularity > 0) / max(len(self.known), 1)
        self.log_q = np.log(np.maximum(law, 1e-12)).astype(np.float32)

    def epoch(self, number: int) -> Iterator[NextBatch]:
        """Batches of epoch `number` (from 0)."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(self.examples)
        for start in range(0, len(order), self.batch_size):
            yield self._batch(order[start : start + self.batch_size], rng)

    def _batch(self, at: np.ndarray, rng: np.random.Generator) -> NextBatch:
        drawn = np.concatenate([self.items[at], rng.choice(self.known, self.negatives)])
        columns, place, count = np.unique(drawn, return_inverse=True, return_counts=True)
        positive = place[: len(at)]
        entries = ranges(at + 1, np.minimum(at + 1 + self.length, self.end[at]))
        row, entry = entries.row_of, entries.values
        past, event = np.unique(self.items[entry], return_inverse=True)
        engaged = self.history.take(self.user[at])
        engaged_row, hit = engaged.row_of, engaged.values
        column = np.minimum(np.searchsorted(columns, hit), len(columns) - 1)
        found = (columns[column] == hit) & (column != positive[engaged_row])
        integers = (columns, positive, engaged_row[found], column[found], past, event, row)
        columns_, positive_, hit_row, hit_column, past_, event_, row_ = (
            torch.from_numpy(values.astype(np.int64)) for values in integers
        )
        floats = (np.log(count), self.log_q[columns], entry - at[row] - 1, self.label[at])
        log_count, log_q, age, label = (torch.from_numpy(values.astype(np.float32)) for values in floats)
        return NextBatch(columns_, positive_, log_count, log_q, hit_row, hit_column, past_, event_, row_, age, label)
