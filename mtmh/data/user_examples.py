"""Examples for a user-to-item model: each item of a history is to be told from what the user
engaged with before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtmh.ragged import Ragged, ranges


@dataclass(frozen=True)
class NextBatch:
    """One step's examples: B positives among P distinct columns (items), each with its user's
    past.
    """

    columns: Tensor  # int64 [P], distinct items
    positive: Tensor  # int64 [B], columns
    # float32 [P], log of how often a column was drawn; the positive's own logit does not take it.
    log_count: Tensor
    log_q: Tensor  # float32 [P], log of the mixture q that the columns were drawn from
    # Accidental hits, int64 [hits]: columns that the row's user engaged with in T1, without the
    # positive.
    hit_row: Tensor
    hit_column: Tensor
    past: Tensor  # int64 [H], distinct items of all the examples' histories
    event: Tensor  # int64 [E], places in `past`: an entry of one example's history each
    row: Tensor  # int64 [E], the example that the entry belongs to
    age: Tensor  # float32 [E], entries between it and the positive
    label: Tensor  # float32 [B], of the positive; NaN where it has none


class NextItems:
    """Draws shuffled examples with in-batch and uniform negatives.

    Arguments: `history`, distinct items of each user, newest first, as `Prepared.train_histories`
    gives them; `label` float32 [items of the histories]; `length`, the most entries of a past;
    `n_items` size of the catalog. Negatives are drawn over the items that anyone engaged with: a
    cold item could only be learned as never wanted. The first item of a history has no past and is
    no example. Order and draws of an epoch depend on `seed` and its number alone.
    """

    def __init__(
        self,
        history: Ragged,
        label: np.ndarray,
        n_items: int,
        batch_size: int,
        negatives: int,
        length: int,
        seed: int,
    ) -> None:
        self.history, self.items = history, history.values
        self.label, self.batch_size, self.negatives, self.length, self.seed = (
            label,
            batch_size,
            negatives,
            length,
            seed,
        )
        # Newest first: an entry's past lies behind it, up to the end of its user's history, and the
        # oldest entry has none.
        self.user = history.row_of
        self.end = history.indptr[1:][self.user]
        self.examples = np.flatnonzero(np.arange(len(self.items)) + 1 < self.end)
        # What columns are drawn from: the examples' own items, and all engaged items alike.
        popularity = np.bincount(self.items, minlength=n_items)
        self.engaged_items = np.flatnonzero(popularity).astype(np.int32)
        positives = np.bincount(self.items[self.examples], minlength=n_items) / max(
            len(self.examples), 1
        )
        share = batch_size / (batch_size + negatives)
        q = share * positives + (1 - share) * (popularity > 0) / max(len(self.engaged_items), 1)
        # An item that is never drawn never is a column; the floor only keeps its log finite.
        self.log_q = np.log(np.maximum(q, 1e-12)).astype(np.float32)

    def epoch(self, number: int) -> Iterator[NextBatch]:
        """Batches of epoch `number` (from 0)."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(self.examples)
        for start in range(0, len(order), self.batch_size):
            yield self._batch(order[start : start + self.batch_size], rng)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> NextBatch:
        # The columns: the positives and uniform negatives, each once.
        drawn = np.concatenate([self.items[rows], rng.choice(self.engaged_items, self.negatives)])
        columns, column_of, count = np.unique(drawn, return_inverse=True, return_counts=True)
        positive = column_of[: len(rows)]
        # The pasts: up to `length` entries after the positive, as histories are newest first.
        entries = ranges(rows + 1, np.minimum(rows + 1 + self.length, self.end[rows]))
        row, entry = entries.row_of, entries.values
        past, event = np.unique(self.items[entry], return_inverse=True)
        # Accidental hits: columns that the user engaged with.
        engaged = self.history.take(self.user[rows])
        engaged_row, hit = engaged.row_of, engaged.values
        column = np.minimum(np.searchsorted(columns, hit), len(columns) - 1)
        is_hit = (columns[column] == hit) & (column != positive[engaged_row])
        return NextBatch(
            columns=_int64(columns),
            positive=_int64(positive),
            log_count=_float32(np.log(count)),
            log_q=_float32(self.log_q[columns]),
            hit_row=_int64(engaged_row[is_hit]),
            hit_column=_int64(column[is_hit]),
            past=_int64(past),
            event=_int64(event),
            row=_int64(row),
            age=_float32(entry - rows[row] - 1),
            label=_float32(self.label[rows]),
        )


def _int64(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
