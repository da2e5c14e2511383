"""Batches for training: mixed negatives, what logQ needs, accidental hits masked (paper section 2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One step's items, gathered once: `items` are distinct, everything else points into them.

    The columns of a similarity matrix are the distinct candidates and uniform negatives. One that was drawn m times
    stands for m columns: adding `log_count` (log m) to its logit is the same as repeating it.
    """

    items: Tensor  # int64 [n], distinct
    trigger: Tensor  # int64 [B], rows of `items`
    columns: Tensor  # int64 [P], rows of `items`
    positive: Tensor  # int64 [B], columns
    log_count: Tensor  # float32 [P]
    log_q: Tensor  # float32 [P], log of the mixture law that the columns were drawn from
    hit_row: Tensor  # int64 [hits], accidental hits: columns that are the row's trigger or engaged by its user,
    hit_column: Tensor  # int64 [hits], save the positive
    weight: Tensor  # float32 [B], mean 1
    hidden: Tensor  # int64 [h], rows of `items` that this step shows as T1 would not know them


class PairSampler:
    """Draws shuffled batches of pairs with in-batch and uniform negatives.

    Arguments: `user`, `trigger`, `candidate` int32 [pairs]; `weight` float32 [pairs]; `history` = (indptr int64
    [users + 1], items int32), what each user engaged with; `n_items` size of the catalog. Uniform negatives are drawn
    over the whole catalog. Of each step's items a share `id_dropout` is hidden (see `Catalog.hide`). The order of an
    epoch depends on `seed` and its number alone, so a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        user: np.ndarray,
        trigger: np.ndarray,
        candidate: np.ndarray,
        weight: np.ndarray,
        history: tuple[np.ndarray, np.ndarray],
        n_items: int,
        batch_size: int,
        uniform_negatives: int,
        seed: int,
        id_dropout: float = 0.0,
    ) -> None:
        self.user, self.trigger, self.candidate, self.weight = user, trigger, candidate, weight
        self.indptr, self.engaged = history
        self.n_items, self.batch_size, self.uniform_negatives, self.seed = n_items, batch_size, uniform_negatives, seed
        self.id_dropout = id_dropout
        in_batch = np.bincount(candidate, minlength=n_items) / max(len(candidate), 1)
        share = batch_size / (batch_size + uniform_negatives)
        law = share * in_batch + (1 - share) / n_items
        # Items that neither law can draw never become a column; a tiny floor keeps their unused log finite.
        self.log_q = np.log(np.maximum(law, 1e-12)).astype(np.float32)

    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last one may be smaller."""
        return -(-len(self.trigger) // self.batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """Batches of epoch `number` (from 0), starting at `first_step`."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.trigger))
        for step in range(first_step, self.steps_per_epoch()):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self._batch(rows, np.random.default_rng((self.seed, number, step)))

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        trigger, candidate = self.trigger[rows], self.candidate[rows]
        drawn = np.concatenate([candidate, rng.integers(0, self.n_items, self.uniform_negatives, dtype=np.int32)])
        columns, place, count = np.unique(drawn, return_inverse=True, return_counts=True)
        extra = np.setdiff1d(trigger, columns)
        items = np.concatenate([columns, extra])
        order = np.argsort(items, kind="stable")
        positive = place[: len(rows)]
        weight = self.weight[rows]
        hit_row, hit_column = self._accidental_hits(self.user[rows], trigger, columns, positive)
        return Batch(
            items=torch.from_numpy(items.astype(np.int64)),
            trigger=torch.from_numpy(order[np.searchsorted(items, trigger, sorter=order)]),
            columns=torch.arange(len(columns)),
            positive=torch.from_numpy(positive),
            log_count=torch.from_numpy(np.log(count).astype(np.float32)),
            log_q=torch.from_numpy(self.log_q[columns]),
            hit_row=torch.from_numpy(hit_row),
            hit_column=torch.from_numpy(hit_column),
            weight=torch.from_numpy((weight / weight.mean()).astype(np.float32)),
            hidden=torch.from_numpy(np.flatnonzero(rng.random(len(items)) < self.id_dropout)),
        )

    def _accidental_hits(
        self, user: np.ndarray, trigger: np.ndarray, columns: np.ndarray, positive: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, int64 [hits] each: the row's trigger or engaged by its user, save the positive itself."""
        length = self.indptr[user + 1] - self.indptr[user]
        row = np.repeat(np.arange(len(user)), length)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        hit = np.concatenate([self.engaged[np.repeat(self.indptr[user], length) + offset], trigger])
        row = np.concatenate([row, np.arange(len(user))])
        column = np.minimum(np.searchsorted(columns, hit), len(columns) - 1)
        found = (columns[column] == hit) & (column != positive[row])
        return row[found], column[found]
