"""Leave-one-out as the sequential papers have it: of each user the last item for test, the last but
one for validation, the rest for training; ranks among all items of the catalog.

The split leaks: other users' later events are trained on. That is the papers' protocol and not this
project's, whose test lies behind all training in time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mtmh.data.importers import check, read
from mtmh.errors import UserError
from mtmh.ragged import Ragged

Order = Literal["file", "shuffled"]
CUTOFFS = (5, 10, 20)
LEAST = 3  # events of a user: one each to train on, to validate with and to test with
ROWS = 512  # users whose scores of the whole catalog are in memory at a time

# Users' pasts, newest first, to float32 [users, items]: what they are expected to take next.
Scorer = Callable[[Ragged], np.ndarray]


@dataclass(frozen=True)
class LeaveOneOut:
    """U users with their three parts; items are numbered by their sorted ids."""

    train: Ragged  # a row a user, int32, distinct items, newest first
    validation: np.ndarray  # int32 [U], the item after those
    test: np.ndarray  # int32 [U], the last
    n_items: int
    left_out: int  # users with fewer than LEAST items

    @property
    def before_test(self) -> Ragged:
        """Training and validation items, newest first: what a model reads before the test item."""
        values = np.insert(self.train.values, self.train.indptr[:-1], self.validation)
        return Ragged.of_lengths(self.train.lengths + 1, values)


def load(folder: Path, order: Order, seed: int) -> LeaveOneOut:
    """The split of a data folder in any form that `mtmh` reads.

    By time; events of one user at one time stay in the file's `order`, or are shuffled by `seed`.
    Raises UserError where the folder is no data, or no user has LEAST items.
    """
    user, item, time = events(folder)
    rows = np.arange(len(item))
    tie = rows if order == "file" else np.random.default_rng(seed).permutation(rows)
    try:
        return split(user, item, time, tie)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def events(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User int64 and item int32, numbered by their sorted ids, and time int64, a row an event in
    the order of the file."""
    table = check(read(folder), [], [])["interactions"].clean
    columns = [table[name].to_numpy() for name in ("user_id", "item_id", "timestamp")]
    user, item = (np.unique(ids, return_inverse=True)[1] for ids in columns[:2])
    return user, item.astype(np.int32), columns[2].astype(np.int64)


def split(user: np.ndarray, item: np.ndarray, time: np.ndarray, tie: np.ndarray) -> LeaveOneOut:
    """From a row an event: user and item numbered from 0, time, and what decides at equal times.

    An item that a user takes again counts where it was taken last. Raises UserError where no user
    has LEAST items.
    """
    # Newest first, as every history of this project.
    newest_first = np.lexsort((-tie, -time, user))
    n_items = int(item.max(initial=-1)) + 1
    pair = user[newest_first] * np.int64(n_items) + item[newest_first]
    # The first of each pair is the newest.
    distinct = newest_first[np.sort(np.unique(pair, return_index=True)[1])]
    lengths = np.bincount(user[distinct])
    enough = np.flatnonzero(lengths >= LEAST)
    if not len(enough):
        raise UserError(
            f"no user has {LEAST} different items, and each needs one to train on, one to validate"
            f" with and one to test with (the most here: {lengths.max(initial=0)}). Name a folder"
            " with longer histories."
        )
    history = Ragged.of_lengths(lengths, item[distinct]).take(enough)
    # The newest is the test's, the next the validation's.
    first, position = history.indptr[:-1], history.position_of
    return LeaveOneOut(
        train=history.where(position >= 2),
        validation=history.values[first + 1],
        test=history.values[first],
        n_items=n_items,
        left_out=int((lengths > 0).sum()) - len(enough),
    )


def ranks(score: Scorer, past: Ragged, target: np.ndarray) -> dict[str, np.ndarray]:
    """Each target's rank from 1, int64 [U], with the user's `past` among those that are ranked
    ("all") and without it ("unseen"). Ties count against the model: it cannot win by a constant.
    """
    # A block of users at a time: the scores of all would not fit in memory.
    among_all, among_unseen = np.zeros((2, past.rows), np.int64)
    for start in range(0, past.rows, ROWS):
        block = slice(start, start + ROWS)
        seen = past.take(block)
        scores = score(seen)
        level = scores[np.arange(seen.rows), target[block]]
        among_all[block] = (scores >= level[:, None]).sum(axis=1)
        ahead = scores[seen.row_of, seen.values] >= level[seen.row_of]
        # What the user has and stands before the target is not ranked among the unseen.
        seen_ahead = np.bincount(seen.row_of[ahead], minlength=seen.rows)
        among_unseen[block] = among_all[block] - seen_ahead
    return {"all": among_all, "unseen": among_unseen}


def figures(rank: np.ndarray) -> dict[str, float]:
    """Recall and NDCG at the CUTOFFS, means over the users; with one target a user NDCG is
    1 / log2(1 + rank) within the cutoff."""
    gain = 1 / np.log2(1 + rank)
    # One target a user: found or not, and at which place.
    recall = {f"recall_at_{cutoff}": float((rank <= cutoff).mean()) for cutoff in CUTOFFS}
    return recall | {
        f"ndcg_at_{cutoff}": float((gain * (rank <= cutoff)).mean()) for cutoff in CUTOFFS
    }
