"""Candidates of users by a vector of each for every cluster: retrieval of the sequential form
(Divide and Conquer, paper.md section 8).
"""

from collections.abc import Sequence

import numpy as np

from mtmh.data.clusters import Clusters
from mtmh.retrieval.restricted import best_of
from mtmh.retrieval.retriever import Pool, Request
from mtmh.retrieval.scoring import NOTHING

USERS = 256  # scored against the whole catalog at a time


def user_lists(
    vectors: np.ndarray, clusters: Clusters, users: Sequence[np.ndarray], request: Request
) -> tuple[Pool, list[Pool]]:
    """The list of every user over the whole catalog, and one within each cluster.

    Arguments: `vectors` float32 [items, d] of the candidates; `users` float32 [U, d] a cluster, the
    users as it sees them; of `request` the seen items, the size and the triggers. A candidate's
    score is <u^k, y> with k its own cluster, its trigger the user's trigger that is nearest to it
    in `vectors`: a sequence as a whole has retrieved it, so this only says which it is most like.
    """
    parts: list[list[Pool]] = []
    for start in range(0, request.triggers.rows, USERS):
        rows = slice(start, start + USERS)
        scores = _scores(vectors, clusters, [vector[rows] for vector in users])
        seen = request.seen.take(rows)
        scores[seen.row_of, seen.values] = NOTHING
        # The whole catalog counts as one more cluster here, the first.
        subsets = [np.arange(len(vectors)), *map(clusters.items, range(clusters.count))]
        lists = [_best_among(scores, members, request.size) for members in subsets]
        history = request.triggers.take(rows)
        triggers = [nearest_trigger(vectors, item, *history) for item, _ in lists]
        parts.append(
            [
                Pool(
                    item,
                    score,
                    trigger,
                    np.where(item >= 0, max(number - 1, 0), -1).astype(np.int8),
                )
                for number, ((item, score), trigger) in enumerate(zip(lists, triggers, strict=True))
            ]
        )
    pools = [_joined(blocks) for blocks in zip(*parts, strict=True)]
    return pools[0], pools[1:]


def nearest_trigger(
    vectors: np.ndarray, item: np.ndarray, indptr: np.ndarray, triggers: np.ndarray
) -> np.ndarray:
    """The trigger of each candidate's user that is nearest to it, int32 [U, size]; -1 for none.

    `item` int32 [U, size], -1 where a list ends; the users' triggers as a Ragged's two arrays.
    """
    nearest = np.full(item.shape, -1, np.int32)
    for user, candidates in enumerate(item):
        history = triggers[indptr[user] : indptr[user + 1]]
        present = candidates >= 0
        if len(history) and present.any():
            similarity = vectors[candidates[present]] @ vectors[history].T
            nearest[user, present] = history[similarity.argmax(axis=1)]
    return nearest


def _scores(vectors: np.ndarray, clusters: Clusters, users: Sequence[np.ndarray]) -> np.ndarray:
    """<u^k, y> of every item y by its own cluster k, float32 [U, items]."""
    scores = np.empty((len(users[0]), len(vectors)), np.float32)
    for cluster, vector in enumerate(users):
        members = clusters.items(cluster)
        scores[:, members] = vector @ vectors[members].T
    return scores


def _best_among(
    scores: np.ndarray, members: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items int32 and scores of the best of some, [U, at most size]; -1 and -inf where a list
    ends."""
    column, score = best_of(scores[:, members], min(size, len(members)))
    return np.where(score > NOTHING, members[column], -1).astype(np.int32), score


def _joined(blocks: Sequence[Pool]) -> Pool:
    columns = zip(
        *((pool.item, pool.score, pool.trigger, pool.channel) for pool in blocks), strict=True
    )
    return Pool(*(np.concatenate(column) for column in columns))
