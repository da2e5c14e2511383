"""Items divided into clusters (Divide and Conquer, arXiv 2302.02657; paper.md section 8).

By K-means of their vectors, or by their topics. Each cluster is a retrieval task of its own.
"""

from dataclasses import dataclass

import faiss
import numpy as np

from mtmh.errors import UserError
from mtmh.ragged import Ragged

ITERATIONS = 25  # of K-means; assignments hardly move after these


@dataclass(frozen=True)
class Clusters:
    """A partition of the catalog: every item lies in exactly one cluster, and no cluster is
    empty."""

    of_item: np.ndarray  # int32 [items], cluster of each item, from 0
    members: Ragged  # a row a cluster: its items, int32, ascending
    reseeded: int = 0  # clusters that K-means had left empty

    @classmethod
    def of(cls, of_item: np.ndarray, reseeded: int = 0) -> "Clusters":
        """From the cluster of each item, int [items], numbered from 0 without gaps."""
        of_item = of_item.astype(np.int32)
        members = np.argsort(of_item, kind="stable").astype(np.int32)
        return cls(of_item, Ragged.of_lengths(np.bincount(of_item), members), reseeded)

    @property
    def count(self) -> int:
        """K, how many clusters there are."""
        return self.members.rows

    def items(self, cluster: int) -> np.ndarray:
        """Int32, ascending: the items of one cluster."""
        start, end = self.members.indptr[cluster : cluster + 2]
        return self.members.values[start:end]


def cluster_by_vectors(vectors: np.ndarray, count: int, seed: int) -> Clusters:
    """Faiss' spherical K-means of `vectors` float32 [items, d], unit rows, into `count` clusters.

    The same seed gives the same clusters. A cluster that ends empty is seeded again: it gets the
    item that is farthest from its own centroid, of a cluster that has another. `reseeded` says how
    often. Raises UserError where there are fewer items than clusters, or `count` is below 1.
    """
    n, d = vectors.shape
    if not 1 <= count <= n:
        raise UserError(
            f"{count} clusters of {n:,} items cannot be made. Write a number from 1 to {n:,}; "
            "5 to 50 is usual."
        )
    kmeans = faiss.Kmeans(
        d, count, niter=ITERATIONS, seed=seed, spherical=True, min_points_per_centroid=1
    )
    kmeans.cp.max_points_per_centroid = max(n // count + 1, 256)  # all items, whatever K
    # Faiss splits a large cluster where one empties between iterations, but not after the last.
    kmeans.train(np.ascontiguousarray(vectors, np.float32))
    similarity, nearest = kmeans.index.search(np.ascontiguousarray(vectors, np.float32), 1)
    return _without_empty(nearest[:, 0].copy(), similarity[:, 0].copy(), count)


def cluster_by_topics(topic_bits: np.ndarray | None) -> Clusters:
    """A cluster a topic: an item goes to the first of its topics, one without any to a last one.

    `topic_bits` uint64 [items, words] as `Prepared.topic_bits` gives them; topics that are nobody's
    first have no cluster. Relevance is measured on topics, so a run with these clusters has seen
    what it is measured on. Raises UserError where the data has no topics.
    """
    if topic_bits is None:
        raise UserError(
            "the data has no topics at this level to cluster items by. Add a column of topics to "
            "items, or cluster by vectors."
        )
    bits = np.unpackbits(topic_bits.view(np.uint8), axis=1, bitorder="little")
    # An item without topics has no first bit: it goes behind all of them.
    first = np.where(bits.any(axis=1), bits.argmax(axis=1), bits.shape[1])
    return Clusters.of(np.unique(first, return_inverse=True)[1])


def _without_empty(of_item: np.ndarray, similarity: np.ndarray, count: int) -> Clusters:
    """The clusters of int64 [items] with the empty ones seeded by the items that fit least.

    `similarity` float32 [items] is that of each item to its own centroid.
    """
    size = np.bincount(of_item, minlength=count)
    empty = np.flatnonzero(size == 0)
    for cluster in empty:
        # Not the last item of a cluster: that one would be empty then.
        movable = np.flatnonzero(size[of_item] > 1)
        item = movable[similarity[movable].argmin()]
        size[of_item[item]] -= 1
        of_item[item], size[cluster] = cluster, 1
        similarity[item] = 1.0
    return Clusters.of(of_item, reseeded=len(empty))
