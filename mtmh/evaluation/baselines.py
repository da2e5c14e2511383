"""What two heads must beat: popularity, ItemKNN of `implicit`, and content
similarity (paper section 9).
"""

from typing import TYPE_CHECKING

import numpy as np

from mtmh.ragged import Ragged
from mtmh.retrieval.index import search_exact
from mtmh.retrieval.retriever import Pool, Request, pool_lists, pool_users

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def popularity_pool(popularity: np.ndarray, triggers: Ragged, seen: Ragged, size: int) -> Pool:
    """The most engaged items that a user has not seen. No trigger retrieves them:
    the newest one stands in.

    `popularity` int64 [items], events in T1.
    """
    # One list for all users, long enough for those who have seen the most of it.
    longest = int(seen.lengths.max(initial=0))
    top = np.argsort(-popularity, kind="stable")[: size + longest].astype(np.int32)
    newest = triggers.take(np.arange(triggers.rows), most=1)
    list_of = np.zeros(len(popularity), dtype=np.int64)  # one list for all triggers
    scores = popularity[top].astype(np.float32)[None]
    item, score, trigger = pool_users(newest, seen, list_of, top[None], scores, scores, size)
    return Pool(item, score, trigger, np.where(item >= 0, 0, -1).astype(np.int8))


def item_knn_pool(
    history: Ragged,
    users: np.ndarray,
    seen: Ragged,
    n_items: int,
    size: int,
    neighbours: int,
) -> Pool:
    """ItemKNN by cosine over all T1 histories, ranked as `implicit` ranks: the
    sum over the user's items.

    `history` of every user, `users` int32 [U] the test users, `seen` theirs. A candidate's trigger
    is the item most similar to it among all that the user has seen, for all of that retrieves here,
    not only its end.
    """
    from implicit.nearest_neighbours import ItemItemRecommender
    from scipy.sparse import csr_matrix

    indptr, items = history
    # Columns of unit length, as implicit's CosineRecommender makes them by
    # way of a warning about its own format.
    unit = 1 / np.sqrt(np.bincount(items, minlength=n_items))[items]
    model = ItemItemRecommender(K=neighbours)
    histories = csr_matrix((unit, items, indptr), shape=(len(indptr) - 1, n_items))
    model.fit(histories, show_progress=False)
    # What is similar to nothing that the user has seen is no candidate.
    entries = np.ones(len(seen.values)), seen.values, seen.indptr
    engaged = csr_matrix(entries, shape=(len(users), n_items))
    item, score = model.recommend(users, engaged, N=size, filter_already_liked_items=True)
    item = np.where(score > 0, item, -1).astype(np.int32)
    score = np.where(item >= 0, score, -np.inf).astype(np.float32)
    trigger = _closest_trigger(item, seen, model.similarity)
    return Pool(item, score, trigger, np.where(item >= 0, 0, -1).astype(np.int8))


def content_pool(content: np.ndarray, request: Request) -> Pool:
    """The nearest items by content vector alone, pooled as the heads are;
    `content` float32 [items, c] unit rows.
    """
    triggers = np.unique(request.triggers.values)
    lists = search_exact(content, triggers, min(request.k_ann, len(content) - 1))
    return pool_lists(triggers, lists, request, request.size, len(content))


def _closest_trigger(item: np.ndarray, seen: Ragged, similarity: "csr_matrix") -> np.ndarray:
    """Of each candidate the seen item most similar to it, of equal ones the
    first, int32 like `item`; -1 without one.

    `item` int32 [U, size], -1 where a list ends; `similarity` float64 [items, items], a row each
    item's neighbours.
    """
    indptr, triggers = seen.indptr, seen.values
    closest = np.full(item.shape, -1, dtype=np.int32)
    source = np.full(similarity.shape[1] + 1, -1, dtype=np.int32)  # the last entry is of item -1
    for user in range(len(item)):
        engaged = triggers[indptr[user] : indptr[user + 1]]
        neighbours = similarity[engaged]
        trigger = np.repeat(engaged, np.diff(neighbours.indptr))
        # Written from the least similar to the most, of equal ones the first
        # last: it is what stays.
        order = np.argsort(-neighbours.data, kind="stable")[::-1]
        source[neighbours.indices[order]] = trigger[order]
        closest[user] = source[item[user]]
        source[neighbours.indices] = -1
    return closest
