"""Batches for training: mixed and hard negatives, what logQ needs, accidental hits masked (paper
section 2).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mtmh.data.pair_source import PairFile, Pairs, joined
from mtmh.ragged import Ragged


@dataclass(frozen=True)
class Batch:
    """One step's items, gathered once: `items` are distinct, everything else points into them.

    The columns of a similarity matrix are the distinct candidates and negatives. One that was drawn
    m times stands for m columns: adding `log_count` (log m) to its logit is the same as repeating
    it.
    """

    items: Tensor  # int64 [n], distinct; the first P are the columns
    trigger: Tensor  # int64 [B], rows of `items`
    positive: Tensor  # int64 [B], columns
    log_count: Tensor  # float32 [P], of the columns
    log_q: Tensor  # float32 [P], log of the mixture q that the columns were drawn from
    # Accidental hits, int64 [hits] by row: columns that are the row's trigger, or that its user
    # engaged with, save the positive.
    hit_row: Tensor
    hit_column: Tensor
    weight: Tensor  # float32 [B], mean 1
    hidden: Tensor  # int64 [h], rows of `items` that this step shows as T1 would not know them


class PairSampler:
    """Draws shuffled batches of pairs with in-batch, uniform and hard negatives.

    Arguments: `pairs` in memory or in a file (see `mtmh.data.pair_source`); `history`, a row of
    int32 items a user, what each engaged with; `n_items` size of the catalog. Uniform negatives are
    drawn from the items that somebody engaged with: of the others, training could only push away
    what all cold items share; `uniform_among`, int items, narrows them (to a cluster). A hard
    negative is drawn in two steps: one of the batch's pairs, then one of its trigger's
    `neighbours`, a row an item; a trigger without any is passed over. All negatives are columns for
    every row. Of each step's items a share `id_dropout` is hidden (see `Catalog.drop_ids`). The
    order of an epoch depends on `seed` and its number alone, so a resumed run sees what an
    uninterrupted one would have seen.
    """

    def __init__(
        self,
        pairs: Pairs | PairFile,
        history: Ragged,
        n_items: int,
        batch_size: int,
        uniform_negatives: int,
        seed: int,
        hard_negatives: int = 0,
        neighbours: Ragged | None = None,
        id_dropout: float = 0.0,
        uniform_among: np.ndarray | None = None,
    ) -> None:
        self.pairs = pairs
        self.indptr, self.engaged = history
        self.n_items, self.batch_size, self.uniform_negatives, self.seed = (
            n_items,
            batch_size,
            uniform_negatives,
            seed,
        )
        self.hard_negatives = hard_negatives
        self.position = np.full(n_items, -1, np.int64)
        self.neighbour_indptr, self.neighbours = neighbours or Ragged.of([[]] * n_items)
        self.id_dropout = id_dropout
        self.engaged_items = np.unique(self.engaged)
        if uniform_among is not None:
            self.engaged_items = np.intersect1d(self.engaged_items, uniform_among)
        uniform = np.zeros(n_items)
        uniform[self.engaged_items] = 1 / max(len(self.engaged_items), 1)
        as_trigger, as_candidate = pairs.counts(n_items)
        in_batch = as_candidate / max(len(pairs), 1)
        hard = self._hard_distribution(as_trigger)
        n_hard = hard_negatives if hard.any() else 0
        drawn = batch_size * in_batch + uniform_negatives * uniform + n_hard * hard
        q = drawn / (batch_size + uniform_negatives + n_hard)
        # Items that are never drawn never become a column; a tiny floor keeps their unused log
        # finite.
        self.log_q = np.log(np.maximum(q, 1e-12)).astype(np.float32)

    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last one may be smaller."""
        return -(-len(self.pairs) // self.batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """Batches of epoch `number` (from 0), starting at `first_step`."""
        for step, pairs in enumerate(self._in_batches(np.random.default_rng((self.seed, number)))):
            if step >= first_step:
                yield self._batch(pairs, np.random.default_rng((self.seed, number, step)))

    def _in_batches(self, rng: np.random.Generator) -> Iterator[Pairs]:
        left: list[Pairs] = []
        for block in self.pairs.shuffled(rng):
            pairs = joined([*left, block])
            whole = len(pairs) // self.batch_size * self.batch_size
            for start in range(0, whole, self.batch_size):
                yield pairs.take(slice(start, start + self.batch_size))
            left = [pairs.take(slice(whole, None))]
        if left and len(left[0]):
            yield left[0]

    def _batch(self, pairs: Pairs, rng: np.random.Generator) -> Batch:
        user, trigger, candidate, weight = pairs.user, pairs.trigger, pairs.candidate, pairs.weight
        uniform = self.engaged_items[
            rng.integers(0, len(self.engaged_items), self.uniform_negatives)
        ]
        drawn = np.concatenate([candidate, uniform, self._hard(trigger, rng)])
        # Room for the trigger and all that the user engaged with: compiled code cannot make the
        # array longer.
        most_hits = len(pairs) + int((self.indptr[user + 1] - self.indptr[user]).sum())
        hits = np.empty((2, most_hits), np.int64)
        items, row, count, hits = _distinct(
            drawn, user, trigger, self.indptr, self.engaged, hits, self.position
        )
        return Batch(
            items=torch.from_numpy(items),
            # The rows of the positives come first, those of the triggers behind all draws.
            trigger=torch.from_numpy(row[len(drawn) :]),
            positive=torch.from_numpy(row[: len(pairs)]),
            log_count=torch.from_numpy(np.log(count).astype(np.float32)),
            log_q=torch.from_numpy(self.log_q[items[: len(count)]]),
            hit_row=torch.from_numpy(hits[0]),
            hit_column=torch.from_numpy(hits[1]),
            # Mean 1: a batch of heavy pairs would make a longer step.
            weight=torch.from_numpy((weight / weight.mean()).astype(np.float32)),
            hidden=torch.from_numpy(np.flatnonzero(rng.random(len(items)) < self.id_dropout)),
        )

    def _hard(self, trigger: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Int32 [hard_negatives], neighbours of the batch's triggers; empty where none of them has
        any.
        """
        start = self.neighbour_indptr[trigger]
        size = self.neighbour_indptr[trigger + 1] - start
        with_neighbours = np.flatnonzero(size)
        if not len(with_neighbours):
            return self.neighbours[:0]
        row = with_neighbours[rng.integers(0, len(with_neighbours), self.hard_negatives)]
        return self.neighbours[start[row] + rng.integers(0, size[row])]

    def _hard_distribution(self, as_trigger: np.ndarray) -> np.ndarray:
        """Float64 [items], the distribution of one hard negative over all batches: the triggers of
        the pairs that have neighbours, by their number, and each trigger's neighbours alike. Zeros
        where none has any.
        """
        size = np.diff(self.neighbour_indptr)
        frequency = as_trigger * (size > 0)
        per_neighbour = frequency / np.maximum(size, 1) / max(frequency.sum(), 1)
        weights = np.repeat(per_neighbour, size)
        return np.bincount(self.neighbours, weights=weights, minlength=self.n_items)


@njit(nogil=True, cache=True)
def _distinct(drawn, user, trigger, indptr, engaged, hits, position):  # type: ignore[no-untyped-def]
    """The distinct items of a batch, the row of each draw and each trigger among them, how often
    each column was drawn, and the accidental hits: [2, hits], rows and columns.

    `position` int64 [catalog] is -1 everywhere, before and after: an entry an item, so that no step
    depends on how many items there are.
    """
    all_items = np.concatenate((drawn, trigger))
    items, row_of = np.empty(len(all_items), np.int64), np.empty(len(all_items), np.int64)
    count = np.zeros(len(drawn), np.int64)
    # Give each distinct item a row, in the order of the draws.
    n = columns = 0
    for i in range(len(all_items)):
        if i == len(drawn):
            columns = n
        item = all_items[i]
        if position[item] < 0:
            position[item] = n
            items[n] = item
            n += 1
        row_of[i] = position[item]
        if i < len(drawn):
            count[row_of[i]] += 1
    # A column that is the trigger, or that the user engaged with, is no negative of the row.
    n_hits = 0
    for row in range(len(user)):
        for e in range(indptr[user[row]], indptr[user[row] + 1] + 1):
            item = trigger[row] if e == indptr[user[row] + 1] else engaged[e]
            if 0 <= position[item] < columns and position[item] != row_of[row]:
                hits[0, n_hits] = row
                hits[1, n_hits] = position[item]
                n_hits += 1
    for i in range(n):
        position[items[i]] = -1
    return items[:n], row_of, count[:columns], hits[:, :n_hits].copy()
