"""Whole histories as examples: what each item is followed by, and what it is told from."""

import numpy as np
import torch

from mtmh.data.whole_sequences import WholeSequences
from mtmh.ragged import Ragged

# Newest first; one user with a single item, who is no example.
HISTORIES = [[5, 3, 1], [7], [2, 4], [9, 8, 6, 4, 2, 0]]
LENGTH, ITEMS = 3, 12


def sampler(seed: int = 0) -> WholeSequences:
    return WholeSequences(Ragged.of(HISTORIES), ITEMS, 2, 5, LENGTH, seed)


def test_each_item_is_followed_by_the_next_of_its_history() -> None:
    followed = []
    for batch in sampler().epoch(0):
        assert batch.after is not None
        before = batch.past.flatten()[batch.after]
        target = batch.columns[batch.positive]
        followed += list(zip(before.tolist(), target.tolist(), strict=True))
        # Right-aligned and oldest first: an example's own past ends where it stands.
        assert (batch.past[:, -1] >= 0).all()
    # Of the longest history the newest four: as many as three targets need.
    assert sorted(followed) == [(1, 3), (3, 5), (4, 2), (4, 6), (6, 8), (8, 9)]
    assert sampler().n_examples == len(followed)


def test_a_users_items_are_no_negatives_of_theirs() -> None:
    for batch in sampler().epoch(0):
        assert batch.after is not None
        hits = {(int(r), int(c)) for r, c in zip(batch.hit_row, batch.hit_column, strict=True)}
        for row, after in enumerate(batch.after):
            newest = int(batch.past[after // LENGTH, -1])
            history = next(items for items in HISTORIES if items[1:2] == [newest])
            expected = {
                (row, column)
                for column, item in enumerate(batch.columns.tolist())
                if item in history and column != batch.positive[row]
            }
            assert {hit for hit in hits if hit[0] == row} == expected


def test_the_same_seed_draws_the_same_and_only_what_somebody_engaged_with() -> None:
    epochs = [[batch.columns for batch in sampler().epoch(1)] for _ in range(2)]
    for first, second in zip(*epochs, strict=True):
        assert torch.equal(first, second)
        assert set(first.tolist()) <= {item for items in HISTORIES for item in items}
    q = np.exp(sampler().log_q)
    assert np.isclose(q.sum(), 1)
    assert (q[[10, 11]] < 1e-9).all()
