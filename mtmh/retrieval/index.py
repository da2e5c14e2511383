"""One head's approximate index: Faiss IVF over unit vectors by inner product (paper section 5)."""

from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np

from mtmh.retrieval.scoring import drop_self, within

POINTS_PER_CLUSTER = 39  # what Faiss asks for at the least to train one centroid
SAMPLE = 512  # queries that nprobe is chosen by, and as many others that recall is measured on


@dataclass(frozen=True)
class Tuning:
    """How an index is set, and its recall of the exact `k` best on queries not
    used for the tuning.
    """

    nlist: int
    nprobe: int
    k: int
    recall: float

    def as_dict(self) -> dict[str, Any]:
        """For index.json."""
        return asdict(self)


def build_index(
    vectors: np.ndarray,
    k: int,
    min_recall: float,
    seed: int,
) -> tuple[faiss.IndexIVFFlat, Tuning]:
    """Cluster and add float32 [items, d] unit rows; choose nprobe so that recall
    at `k` is at least `min_recall`.

    nlist is 4 sqrt(N), fewer when clusters would be starved. nprobe doubles, then is bisected,
    until the share of the exact `k` best that the index finds, over a seeded sample of items as
    queries, reaches `min_recall` with a margin; the recall returned is measured on a second sample.
    """
    n, d = vectors.shape
    k = min(k, max(n - 1, 1))
    nlist = clusters(n)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, nlist, faiss.METRIC_INNER_PRODUCT)
    # Unit vectors have unit centroids; small catalogs have few items a cluster, without a warning.
    index.cp.spherical = True
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    # Recall is measured on other queries than nprobe is chosen by, or it would flatter.
    tune, check = _queries(n, seed)
    index.nprobe = _choose_nprobe(index, vectors, tune, k, _recall_target(min_recall))
    return index, Tuning(nlist, index.nprobe, k, round(_recall(index, vectors, check, k), 4))


def extend_index(
    index: faiss.Index, vectors: np.ndarray, k: int, min_recall: float, seed: int
) -> tuple[faiss.IndexIVFFlat, Tuning]:
    """An index of all rows of `vectors`, of which `index` holds the first; other
    arguments as of `build_index`.

    New rows go into the clusters that are there, and nprobe is chosen again where recall has fallen
    below `min_recall`. Once there are so many that a build would make half as many clusters again,
    all is rebuilt. `index` itself stays as it is.
    """
    n = len(vectors)
    k = min(k, max(n - 1, 1))
    grown = faiss.clone_index(on_cpu(index))
    assert isinstance(grown, faiss.IndexIVFFlat)
    # With so many items for its clusters, every search would read too many of them.
    if 2 * clusters(n) > 3 * grown.nlist:
        return build_index(vectors, k, min_recall, seed)
    grown.add(vectors[index.ntotal :])
    tune, check = _queries(n, seed)
    recall = _recall(grown, vectors, check, k)
    # New items may lie far from the old centroids: then more clusters are probed.
    if recall < min_recall:
        target = _recall_target(min_recall)
        grown.nprobe = _choose_nprobe(grown, vectors, tune, k, target)
        recall = _recall(grown, vectors, check, k)
    return grown, Tuning(grown.nlist, grown.nprobe, k, round(recall, 4))


def clusters(n: int) -> int:
    """How many an index of `n` items has: 4 sqrt(n), fewer when they would be starved."""
    return max(1, min(int(4 * n**0.5), n // POINTS_PER_CLUSTER))


def search(
    index: faiss.Index,
    vectors: np.ndarray,
    items: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest items of each trigger, the trigger itself left out: ids int32 and
    scores float32, both [B, k].

    Arguments: `vectors` float32 [items, d], `items` int32 [B]. Best first; id -1 and score -inf
    where a list ends.
    """
    scores, ids = index.search(np.ascontiguousarray(vectors[items]), k + 1)
    return drop_self(ids.astype(np.int32), scores, items)


def search_within(
    index: faiss.Index, queries: np.ndarray, allowed: np.ndarray, exclude: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The exact k nearest of the `allowed` items alone: ids int32 and scores float32, [B, k].

    Arguments: `index` flat or IVF over all items, by inner product, not on a GPU; `queries` float32
    [B, d]; `allowed` int [n]; `exclude` int [B], an item a query that is left out (the trigger
    itself), -1 for none. Best first; id -1 and score -inf where a list ends.
    """
    parameters = within(index, allowed)
    scores, ids = index.search(np.ascontiguousarray(queries), k + 1, params=parameters)
    return drop_self(ids.astype(np.int32), scores, exclude)


def search_exact(vectors: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `search`, over all items: what the index is measured against."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    return search(flat, vectors, items, k)


def on_gpu(index: faiss.Index) -> faiss.Index:
    """The index on the first GPU where this build of Faiss has one, else
    unchanged. A GPU search takes k <= 2048.
    """
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def on_cpu(index: faiss.Index) -> faiss.Index:
    """The index where it can grow and be written: a copy of it where it was on a
    GPU, else unchanged.
    """
    return index if isinstance(index, faiss.IndexIVFFlat) else faiss.index_gpu_to_cpu(index)


def _queries(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items to choose nprobe by, and others to measure recall by where there are enough."""
    queries = np.random.default_rng(seed).permutation(n)[: 2 * SAMPLE]
    return (queries, queries) if n < 2 * SAMPLE else (queries[:SAMPLE], queries[SAMPLE:])


def _recall_target(min_recall: float) -> float:
    """`min_recall` with a margin, as recall is measured on other queries."""
    return min_recall + 0.2 * (1 - min_recall)


def _choose_nprobe(
    index: faiss.IndexIVFFlat,
    vectors: np.ndarray,
    items: np.ndarray,
    k: int,
    target: float,
) -> int:
    """Smallest nprobe whose recall reaches the target; all clusters always do."""
    exact = search_exact(vectors, items, k)[0]

    def reaches(nprobe: int) -> bool:
        index.nprobe = nprobe
        return _overlap(search(index, vectors, items, k)[0], exact) >= target

    # Doubling brackets the answer, bisection finds it: each trial is a search of all queries.
    high = 1
    while high < index.nlist and not reaches(high):
        high = min(2 * high, index.nlist)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _recall(index: faiss.IndexIVFFlat, vectors: np.ndarray, items: np.ndarray, k: int) -> float:
    return _overlap(search(index, vectors, items, k)[0], search_exact(vectors, items, k)[0])


def _overlap(ids: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours that `ids` holds; 1 where there are none."""
    hits = 0
    for approximate, neighbours in zip(ids, exact, strict=True):
        hits += len(
            np.intersect1d(approximate[approximate >= 0], neighbours[neighbours >= 0], True)
        )
    total = int((exact >= 0).sum())
    return hits / total if total else 1.0
