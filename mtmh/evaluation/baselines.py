"""What two heads must beat: popularity, ItemKNN of `implicit`, and content similarity (paper section 9)."""

from typing import TYPE_CHECKING

import numpy as np

from mtmh.retrieval.index import search_exact
from mtmh.retrieval.pool import pool_candidates
from mtmh.retrieval.retriever import Csr, Pool, pool_lists

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def popularity_pool(popularity: np.ndarray, triggers: Csr, seen: Csr, size: int) -> Pool:
    """The most engaged items that a user has not seen. No trigger retrieves them: the newest one stands in.

    `popularity` int64 [items], events in T1.
    """
    longest = int(np.diff(seen[0]).max(initial=0))
    top = np.argsort(-popularity, kind="stable")[: size + longest].astype(np.int32)
    newest = (np.arange(len(triggers[0])), triggers[1][triggers[0][:-1]])
    every = np.zeros(len(popularity), dtype=np.int64)  # one list for all triggers
    scores = popularity[top].astype(np.float32)
    item, score, trigger = pool_candidates(
        *newest, every, top[None], scores[None], scores[None], *seen, size, len(popularity)
    )
    return Pool(item, score, trigger, np.where(item >= 0, 0, -1).astype(np.int8))


def item_knn_pool(history: Csr, users: np.ndarray, seen: Csr, n_items: int, size: int, neighbours: int) -> Pool:
    """ItemKNN by cosine over all T1 histories, ranked as `implicit` ranks: the sum over the user's items.

    `history` of every user, `users` int32 [U] the test users, `seen` theirs. A candidate's trigger is the item most
    similar to it among all that the user has seen, for all of that retrieves here, not only its end.
    """
    from implicit.nearest_neighbours import ItemItemRecommender
    from scipy.sparse import csr_matrix

    indptr, items = history
    # Columns of unit length, as implicit's CosineRecommender makes them by way of a warning about its own format.
    unit = 1 / np.sqrt(np.bincount(items, minlength=n_items))[items]
    model = ItemItemRecommender(K=neighbours)
    model.fit(csr_matrix((unit, items, indptr), shape=(len(indptr) - 1, n_items)), show_progress=False)
    engaged = csr_matrix((np.ones(len(seen[1])), seen[1], seen[0]), shape=(len(users), n_items))
    item, score = model.recommend(users, engaged, N=size, filter_already_liked_items=True)
    item = np.where(score > 0, item, -1).astype(np.int32)
    score = np.where(item >= 0, score, -np.inf).astype(np.float32)
    trigger = _closest_trigger(item, seen, model.similarity)
    return Pool(item, score, trigger, np.where(item >= 0, 0, -1).astype(np.int8))


def content_pool(content: np.ndarray, triggers: Csr, seen: Csr, k: int, size: int, temperature: float) -> Pool:
    """The nearest items by content vector alone, pooled as the heads are; `content` float32 [items, c] unit rows."""
    return pool_lists(lambda items: search_exact(content, items, k), triggers, seen, size, len(content), temperature)


def _closest_trigger(item: np.ndarray, seen: Csr, similarity: "csr_matrix") -> np.ndarray:
    """Of each candidate the seen item most similar to it, of equal ones the first, int32 like `item`; -1 without one.

    `item` int32 [U, size], -1 where a list ends; `similarity` float64 [items, items], a row each item's neighbours.
    """
    indptr, triggers = seen
    closest = np.full(item.shape, -1, dtype=np.int32)
    source = np.full(similarity.shape[1] + 1, -1, dtype=np.int32)  # the last entry is of item -1
    for user in range(len(item)):
        engaged = triggers[indptr[user] : indptr[user + 1]]
        neighbours = similarity[engaged]
        trigger = np.repeat(engaged, np.diff(neighbours.indptr))
        # Written from the least similar to the most, of equal ones the first last: it is what stays.
        order = np.argsort(-neighbours.data, kind="stable")[::-1]
        source[neighbours.indices[order]] = trigger[order]
        closest[user] = source[item[user]]
        source[neighbours.indices] = -1
    return closest
