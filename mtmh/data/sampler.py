"""Batches for training: mixed and hard negatives, what logQ needs, accidental hits masked (paper section 2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One step's items, gathered once: `items` are distinct, everything else points into them.

    The columns of a similarity matrix are the distinct candidates and negatives. One that was drawn m times stands for
    m columns: adding `log_count` (log m) to its logit is the same as repeating it.
    """

    items: Tensor  # int64 [n], distinct; the first P are the columns
    trigger: Tensor  # int64 [B], rows of `items`
    positive: Tensor  # int64 [B], columns
    log_count: Tensor  # float32 [P], of the columns
    log_q: Tensor  # float32 [P], log of the mixture law that the columns were drawn from
    hit_row: Tensor  # int64 [hits], accidental hits: columns that are the row's trigger or engaged by its user,
    hit_column: Tensor  # int64 [hits], save the positive
    weight: Tensor  # float32 [B], mean 1


class PairSampler:
    """Draws shuffled batches of pairs with in-batch, uniform and hard negatives.

    Arguments: `user`, `trigger`, `candidate` int32 [pairs]; `weight` float32 [pairs]; `history` = (indptr int64
    [users + 1], items int32), what each user engaged with; `n_items` size of the catalog. Uniform negatives are drawn
    over the whole catalog. A hard negative is drawn in two steps: one of the batch's pairs, then one of its trigger's
    `neighbours` = (indptr int64 [items + 1], items int32); a trigger without any is passed over. All negatives are
    columns for every row. The order of an epoch depends on `seed` and its number alone, so a resumed run sees what an
    uninterrupted one would have seen.
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
        hard_negatives: int = 0,
        neighbours: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.user, self.trigger, self.candidate, self.weight = user, trigger, candidate, weight
        self.indptr, self.engaged = history
        self.n_items, self.batch_size, self.uniform_negatives, self.seed = n_items, batch_size, uniform_negatives, seed
        self.hard_negatives = hard_negatives
        self.near_indptr, self.near = neighbours or (np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32))
        in_batch = np.bincount(candidate, minlength=n_items) / max(len(candidate), 1)
        hard = self._hard_law()
        laws = ((batch_size, in_batch), (uniform_negatives, 1 / n_items), (hard_negatives if hard.any() else 0, hard))
        law = sum(drawn * one for drawn, one in laws) / sum(drawn for drawn, _ in laws)
        # Items that no law can draw never become a column; a tiny floor keeps their unused log finite.
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
        uniform = rng.integers(0, self.n_items, self.uniform_negatives, dtype=np.int32)
        drawn = np.concatenate([candidate, uniform, self._hard(trigger, rng)])
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
            positive=torch.from_numpy(positive),
            log_count=torch.from_numpy(np.log(count).astype(np.float32)),
            log_q=torch.from_numpy(self.log_q[columns]),
            hit_row=torch.from_numpy(hit_row),
            hit_column=torch.from_numpy(hit_column),
            weight=torch.from_numpy((weight / weight.mean()).astype(np.float32)),
        )

    def _hard(self, trigger: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Int32 [hard_negatives], neighbours of the batch's triggers; empty where none of them has any."""
        start = self.near_indptr[trigger]
        size = self.near_indptr[trigger + 1] - start
        able = np.flatnonzero(size)
        if not len(able):
            return self.near[:0]
        row = able[rng.integers(0, len(able), self.hard_negatives)]
        return self.near[start[row] + rng.integers(0, size[row])]

    def _hard_law(self) -> np.ndarray:
        """Float64 [items], the law of one hard negative over all batches: the triggers of the pairs that have
        neighbours, by their number, and each one's neighbours alike. Zeros where no trigger has neighbours."""
        size = np.diff(self.near_indptr)
        frequency = np.bincount(self.trigger, minlength=self.n_items) * (size > 0)
        each = frequency / np.maximum(size, 1) / max(frequency.sum(), 1)
        return np.bincount(self.near, weights=np.repeat(each, size), minlength=self.n_items)

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
