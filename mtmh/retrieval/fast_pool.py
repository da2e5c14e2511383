"""The pools of many users at once, on all cores: to the bit what scoring.Pooling
gives each user.
"""

import numpy as np
from numba import njit, prange

from mtmh.ragged import Ragged
from mtmh.retrieval import scoring

BLOCKS = 64  # of users; each block has its own marks
_first_of = njit(cache=True)(scoring.first_of)


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

    See `scoring.Pooling`. A candidate's trigger is the one that retrieved it with the best score.

    Arguments: `triggers` and `seen`, int32 items of U users; `list_of` int64 [items], the row of
    `ids` that holds a trigger's candidates; `ids` int32 [lists, k], -1 from where a list ends, with
    their `scores` (similarities) and `votes`, float32 [lists, k]. Returns item int32, sum of votes
    float32 and trigger int32, each [U, size]; -1, -inf and -1 where a pool ends early. The cost is
    that of the lists read and, once a block of users, of a mark an item.
    """
    users = triggers.rows
    item = np.full((users, size), -1, dtype=np.int32)
    total = np.full((users, size), -np.inf, dtype=np.float32)
    trigger = np.full((users, size), -1, dtype=np.int32)
    blocks = max(1, min(users, BLOCKS))
    _pool(*triggers, *seen, list_of, ids, scores, votes, blocks, item, total, trigger)
    return item, total, trigger


@njit(parallel=True, cache=True)
def _pool(  # type: ignore[no-untyped-def]
    trigger_indptr,
    triggers,
    seen_indptr,
    seen,
    list_of,
    ids,
    scores,
    votes,
    blocks,
    item,
    total,
    trigger,
):
    users, size = item.shape
    for block in prange(blocks):
        met_by = np.full(len(list_of), -1, dtype=np.int32)  # the user that last met the item
        entry = np.empty(len(list_of), dtype=np.int32)  # of a candidate, in order met; -1 = seen
        candidates = np.empty(len(list_of), dtype=np.int32)
        sums = np.empty(len(list_of), dtype=np.float32)
        nearest = np.empty(len(list_of), dtype=np.float32)
        trigger_of = np.empty(len(list_of), dtype=np.int32)
        for user in range(users * block // blocks, users * (block + 1) // blocks):
            for s in range(seen_indptr[user], seen_indptr[user + 1]):
                met_by[seen[s]] = user
                entry[seen[s]] = -1
            n = 0
            for t in range(trigger_indptr[user], trigger_indptr[user + 1]):
                row = list_of[triggers[t]]
                for column in range(ids.shape[1]):
                    candidate = ids[row, column]
                    if candidate < 0:
                        break
                    if met_by[candidate] != user:
                        met_by[candidate] = user
                        entry[candidate] = n
                        candidates[n] = candidate
                        sums[n] = votes[row, column]
                        nearest[n] = scores[row, column]
                        trigger_of[n] = triggers[t]
                        n += 1
                    elif entry[candidate] >= 0:
                        e = entry[candidate]
                        sums[e] += votes[row, column]
                        if scores[row, column] > nearest[e]:
                            nearest[e] = scores[row, column]
                            trigger_of[e] = triggers[t]
            best = _first_of(sums[:n], size)
            item[user, : len(best)] = candidates[best]
            total[user, : len(best)] = sums[best]
            trigger[user, : len(best)] = trigger_of[best]
