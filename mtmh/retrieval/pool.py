"""One ranked pool a user from the candidate lists of that user's triggers (paper section 6)."""

import numpy as np
from numba import njit, prange


def pool_candidates(
    trigger_indptr: np.ndarray,
    triggers: np.ndarray,
    list_of: np.ndarray,
    ids: np.ndarray,
    scores: np.ndarray,
    seen_indptr: np.ndarray,
    seen: np.ndarray,
    size: int,
    n_items: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triggers' candidates sorted by score, distinct, without what the user has seen: the first `size` a user.

    A candidate's trigger is the one that retrieved it with the best score.

    Arguments, U users: `trigger_indptr` int64 [U + 1] and `triggers` int32, each user's triggers; `list_of` int64
    [items], the row of `ids` and `scores` that holds a trigger's candidates; `ids` int32 [lists, k] and `scores`
    float32 [lists, k], best first, -1 where a list ends early; `seen_indptr` int64 [U + 1] and `seen` int32, items to
    leave out. Returns item int32, score float32 and trigger int32, each [U, size]; item -1 where a pool ends early.

    Lists are sorted, so a heap over their heads yields a user's pool in order and stops as soon as it is full: the cost
    does not depend on the size of the catalog or the depth of the lists.
    """
    users = len(trigger_indptr) - 1
    item = np.full((users, size), -1, dtype=np.int32)
    score = np.full((users, size), -np.inf, dtype=np.float32)
    source = np.full((users, size), -1, dtype=np.int32)
    blocks = max(1, min(users, 64))
    _pool(trigger_indptr, triggers, list_of, ids, scores, seen_indptr, seen, n_items, blocks, item, score, source)
    return item, score, source


@njit(parallel=True, cache=True)
def _pool(trigger_indptr, triggers, list_of, ids, scores, seen_indptr, seen, n_items, blocks, item, score, source):  # type: ignore[no-untyped-def]
    users, size = item.shape
    depth = ids.shape[1]
    for block in prange(blocks):
        taken = np.full(n_items, -1, dtype=np.int32)  # user that last took or had seen the item
        for user in range(users * block // blocks, users * (block + 1) // blocks):
            for s in range(seen_indptr[user], seen_indptr[user + 1]):
                taken[seen[s]] = user
            first, last = trigger_indptr[user], trigger_indptr[user + 1]
            count = last - first
            heap = np.empty(count, dtype=np.int64)  # a max-heap of list numbers, keyed by each list's next score
            place = np.zeros(count, dtype=np.int64)
            row = np.empty(count, dtype=np.int64)
            n = 0
            for t in range(count):
                row[t] = list_of[triggers[first + t]]
                if depth > 0 and ids[row[t], 0] >= 0:
                    heap[n] = t
                    n += 1
            for start in range(n // 2 - 1, -1, -1):
                _sift(heap, n, start, scores, row, place)
            filled = 0
            while n > 0 and filled < size:
                t = heap[0]
                at = place[t]
                candidate = ids[row[t], at]
                if taken[candidate] != user:
                    taken[candidate] = user
                    item[user, filled] = candidate
                    score[user, filled] = scores[row[t], at]
                    source[user, filled] = triggers[first + t]
                    filled += 1
                place[t] = at + 1
                if at + 1 >= depth or ids[row[t], at + 1] < 0:
                    n -= 1
                    heap[0] = heap[n]
                _sift(heap, n, 0, scores, row, place)


@njit(cache=True)
def _sift(heap, n, start, scores, row, place):  # type: ignore[no-untyped-def]
    """Let the list at `start` sink to its place; ties go to the trigger that comes first."""
    parent = start
    while True:
        child = 2 * parent + 1
        if child >= n:
            return
        if child + 1 < n and _before(heap[child + 1], heap[child], scores, row, place):
            child += 1
        if not _before(heap[child], heap[parent], scores, row, place):
            return
        heap[parent], heap[child] = heap[child], heap[parent]
        parent = child


@njit(cache=True)
def _before(a, b, scores, row, place):  # type: ignore[no-untyped-def]
    left, right = scores[row[a], place[a]], scores[row[b], place[b]]
    return left > right or (left == right and a < b)
