"""The pools of many users: what `scoring.Pooling` gives each of them."""

import numpy as np

from mtmh.ragged import Ragged
from mtmh.retrieval.scoring import Pooling


def pool_users(
    triggers: Ragged,
    seen: Ragged,
    list_of: np.ndarray,
    ids: np.ndarray,
    scores: np.ndarray,
    votes: np.ndarray,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triggers' candidates by the sum of their votes, without `seen`: the first `size` a user.

    See `Pooling`. A candidate's trigger is the one that retrieved it with the best score.

    Arguments: `triggers` and `seen`, int32 items of U users; `list_of` int64 [items], the row of
    `ids` that holds a trigger's candidates; `ids` int32 [lists, k], -1 from where a list ends, with
    their `scores` (similarities) and `votes`, float32 [lists, k]. Returns item int32, sum of votes
    float32 and trigger int32, each [U, size]; -1, -inf and -1 where a pool ends early. The cost is
    that of the lists read: a compiled loop took half of it, and 15 s to compile.
    """
    users = triggers.rows
    item = np.full((users, size), -1, dtype=np.int32)
    total = np.full((users, size), -np.inf, dtype=np.float32)
    trigger = np.full((users, size), -1, dtype=np.int32)
    pooling = Pooling(len(list_of))
    for user in range(users):
        history = triggers.values[triggers.indptr[user] : triggers.indptr[user + 1]]
        hidden = seen.values[seen.indptr[user] : seen.indptr[user + 1]]
        rows = list_of[history]
        best, votes_of, _, source = pooling.rank(ids[rows], scores[rows], votes[rows], hidden, size)
        item[user, : len(best)] = best
        total[user, : len(best)] = votes_of
        trigger[user, : len(best)] = history[source]
    return item, total, trigger
