"""One ranked pool a user from the candidate lists of that user's triggers (paper section 6)."""

import numpy as np
from numba import njit, prange


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """p(candidate | trigger): the softmax of similarity / temperature over each trigger's list, float32 [lists, k].

    InfoNCE trained this softmax (at tau_p); here it runs over what was retrieved. It makes lists comparable: one with
    few close neighbours says more about each than one that is a little like everything. `scores` float32 [lists, k],
    best first, -inf where a list ends.
    """
    best = np.where(np.isneginf(scores[:, :1]), np.float32(0), scores[:, :1])
    weight = np.exp((scores - best) / np.float32(temperature))
    return weight / np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)


def pool_candidates(
    trigger_indptr: np.ndarray,
    triggers: np.ndarray,
    list_of: np.ndarray,
    ids: np.ndarray,
    scores: np.ndarray,
    votes: np.ndarray,
    seen_indptr: np.ndarray,
    seen: np.ndarray,
    size: int,
    n_items: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triggers' candidates by the sum of their votes, without what the user has seen: the first `size` a user.

    With `probabilities` as votes that is the order of p(candidate | user), the mixture of the triggers' softmaxes: what
    several triggers retrieve comes before what one retrieves as well. A candidate's trigger is the one that retrieved
    it with the best score. Equal sums stand in the order in which triggers and their lists name them.

    Arguments, U users: `trigger_indptr` int64 [U + 1] and `triggers` int32, each user's triggers; `list_of` int64
    [items], the row of `ids` that holds a trigger's candidates; `ids` int32 [lists, k], -1 from where a list ends, with
    their `scores` (similarities) and `votes`, float32 [lists, k]; `seen_indptr` int64 [U + 1] and `seen` int32, items
    to leave out. Returns item int32, sum of votes float32 and trigger int32, each [U, size]; item -1 where a pool ends
    early. The cost is that of the lists read and, once a block of users, of a mark an item.
    """
    users = len(trigger_indptr) - 1
    item = np.full((users, size), -1, dtype=np.int32)
    score = np.full((users, size), -np.inf, dtype=np.float32)
    source = np.full((users, size), -1, dtype=np.int32)
    lists, out = (ids, scores, votes), (item, score, source)
    _pool(trigger_indptr, triggers, list_of, lists, seen_indptr, seen, n_items, max(1, min(users, 64)), out)
    return out


@njit(parallel=True, cache=True)
def _pool(trigger_indptr, triggers, list_of, lists, seen_indptr, seen, n_items, blocks, out):  # type: ignore[no-untyped-def]
    ids, scores, votes = lists
    item, score, source = out
    users, size = item.shape
    for block in prange(blocks):
        met = np.full(n_items, -1, dtype=np.int32)  # user that last met the item, as a candidate or as seen
        place = np.empty(n_items, dtype=np.int32)  # of a candidate in the order met; -1 = seen
        found = np.empty(n_items, dtype=np.int32)
        total = np.empty(n_items, dtype=np.float32)
        nearest = np.empty(n_items, dtype=np.float32)
        trigger_of = np.empty(n_items, dtype=np.int32)
        best = np.empty(size, dtype=np.int32)
        for user in range(users * block // blocks, users * (block + 1) // blocks):
            for s in range(seen_indptr[user], seen_indptr[user + 1]):
                met[seen[s]] = user
                place[seen[s]] = -1
            n = 0
            for t in range(trigger_indptr[user], trigger_indptr[user + 1]):
                row = list_of[triggers[t]]
                for at in range(ids.shape[1]):
                    candidate = ids[row, at]
                    if candidate < 0:
                        break
                    if met[candidate] != user:
                        met[candidate] = user
                        place[candidate] = n
                        found[n] = candidate
                        total[n] = votes[row, at]
                        nearest[n] = scores[row, at]
                        trigger_of[n] = triggers[t]
                        n += 1
                    elif place[candidate] >= 0:
                        p = place[candidate]
                        total[p] += votes[row, at]
                        if scores[row, at] > nearest[p]:
                            nearest[p] = scores[row, at]
                            trigger_of[p] = triggers[t]
            for rank in range(_select(total, n, best)):
                item[user, rank] = found[best[rank]]
                score[user, rank] = total[best[rank]]
                source[user, rank] = trigger_of[best[rank]]


@njit(cache=True)
def _select(total, n, best):  # type: ignore[no-untyped-def]
    """Places of the highest of `total[:n]` into `best`, highest first, of equal ones the earlier; returns how many.

    A heap of the best so far with the worst of them on top: most of a long list is turned away by one comparison.
    """
    kept = min(n, len(best))
    for at in range(kept):
        best[at] = at
    for start in range(kept // 2 - 1, -1, -1):
        _sift(best, kept, start, total)
    for at in range(kept, n):
        if total[at] > total[best[0]]:
            best[0] = at
            _sift(best, kept, 0, total)
    for last in range(kept - 1, 0, -1):
        best[0], best[last] = best[last], best[0]
        _sift(best, last, 0, total)
    return kept


@njit(cache=True)
def _sift(heap, n, parent, total):  # type: ignore[no-untyped-def]
    """Let the place at `parent` sink until no child of it is worse."""
    child = 2 * parent + 1
    while child < n:
        if child + 1 < n and _worse(heap[child + 1], heap[child], total):
            child += 1
        if not _worse(heap[child], heap[parent], total):
            return
        heap[parent], heap[child] = heap[child], heap[parent]
        parent, child = child, 2 * child + 1


@njit(cache=True)
def _worse(a, b, total):  # type: ignore[no-untyped-def]
    return total[a] < total[b] or (total[a] == total[b] and a > b)
