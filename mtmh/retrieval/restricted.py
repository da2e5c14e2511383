"""Search within clusters, all of them in parallel (Divide and Conquer, paper.md section 8)."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np

from mtmh.data.clusters import Clusters
from mtmh.retrieval.controllable import merge_clusters, slots
from mtmh.retrieval.index import search_within
from mtmh.retrieval.retriever import Lists, Pool, Request, pool_lists
from mtmh.retrieval.scoring import NOTHING

TRIGGERS = 1024  # scored against the whole catalog at a time
Queries = Callable[[np.ndarray, int], np.ndarray]  # items int [B], cluster -> float32 [B, d]


def cluster_pools(
    vectors: np.ndarray,
    clusters: Clusters,
    queries: Queries,
    request: Request,
    threads: int = 1,
) -> list[Pool]:
    """Each cluster's ranked list of every user, `request.size` at most: a pool a cluster.

    `vectors` float32 [items, d] of the candidates; `queries` gives the triggers' vectors as a
    cluster sees them. A trigger's list is the exact nearest `request.k_ann` of the cluster; users'
    lists are ranked as elsewhere, by p(candidate | user), here within the cluster. `threads` search
    clusters at the same time.
    """
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    distinct = np.unique(request.triggers.values)

    def of_cluster(cluster: int) -> Pool:
        allowed = clusters.items(cluster)
        k = min(request.k_ann, len(allowed))
        lists = search_within(index, queries(distinct, cluster), allowed, distinct, k)
        return pool_lists(distinct, lists, request, request.size, len(vectors), cluster)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(of_cluster, range(clusters.count)))


def merged_pool(pools: Sequence[Pool], p: np.ndarray, size: int, exponent: float) -> Pool:
    """The controllable merge of the clusters' pools; `channel` is the cluster.

    `p` float64 [U, K], the users' intent; see `slots` and `merge_clusters`. Lists are [U, size].
    """
    available = np.stack([(pool.item >= 0).sum(axis=1) for pool in pools], axis=1)
    given = slots(p, size, exponent, available)
    item, cluster, rank = merge_clusters([pool.item for pool in pools], given)
    # Columns behind the longest list, so that every exponent gives the same shape.
    behind = ((0, 0), (0, size - item.shape[1]))
    item, cluster, rank = (np.pad(x, behind, constant_values=-1) for x in (item, cluster, rank))
    start = np.cumsum([0, *(pool.item.shape[1] for pool in pools)])
    column = np.maximum(start[cluster] + rank, 0)

    def taken(values: Sequence[np.ndarray], fill: float) -> np.ndarray:
        merged = np.take_along_axis(np.concatenate(values, axis=1), column, axis=1)
        return np.where(item >= 0, merged, merged.dtype.type(fill))

    score = taken([pool.score for pool in pools], -np.inf)
    trigger = taken([pool.trigger for pool in pools], -1)
    return Pool(item, score, trigger, cluster.astype(np.int8))


def lists_over_all(
    vectors: np.ndarray, clusters: Clusters, queries: Queries, triggers: np.ndarray, k: int
) -> Lists:
    """The k best of the whole catalog for each trigger, each candidate scored by its own cluster's
    query: one ranking in the place of one a cluster. As `search`; `triggers` int32 [B].
    """
    k = min(k, len(vectors) - 1)
    blocks = [(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))]
    for start in range(0, len(triggers), TRIGGERS):
        block = triggers[start : start + TRIGGERS]
        scores = np.empty((len(block), len(vectors)), np.float32)
        for cluster in range(clusters.count):
            members = clusters.items(cluster)
            scores[:, members] = queries(block, cluster) @ vectors[members].T
        scores[np.arange(len(block)), block] = NOTHING
        blocks.append(best_of(scores, k))
    ids, highest = zip(*blocks, strict=True)
    return np.concatenate(ids), np.concatenate(highest)


def best_of(scores: np.ndarray, k: int) -> Lists:
    """Columns int32 and values of the k highest of each row of float32 [R, N], highest first."""
    # The k best in any order first: a full sort of every row is several times the work.
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    highest = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-highest, axis=1, kind="stable")
    ids = np.take_along_axis(best, order, axis=1).astype(np.int32)
    return ids, np.take_along_axis(highest, order, axis=1)
