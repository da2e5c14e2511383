"""One head's approximate index: Faiss IVF over unit vectors by inner product (paper section 5)."""

from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np

POINTS_PER_CLUSTER = 39  # what Faiss asks for at the least to train one centroid
SAMPLE = 512


@dataclass(frozen=True)
class Tuning:
    """How an index was set and what that gave: recall of the exact `k` best, on queries not used for the tuning."""

    nlist: int
    nprobe: int
    k: int
    recall: float

    def as_dict(self) -> dict[str, Any]:
        """For index.json."""
        return asdict(self)


def build_index(vectors: np.ndarray, k: int, min_recall: float, seed: int) -> tuple[faiss.IndexIVFFlat, Tuning]:
    """Cluster and add float32 [items, d] unit rows; choose nprobe so that recall at `k` is at least `min_recall`.

    nlist is 4 sqrt(N), fewer when clusters would be starved. nprobe doubles, then is bisected, until the share of the
    exact `k` best that the index finds, over a seeded sample of items as queries, reaches `min_recall` with a margin;
    the recall told is measured on a second sample.
    """
    n, d = vectors.shape
    k = min(k, max(n - 1, 1))
    nlist = max(1, min(int(4 * n**0.5), n // POINTS_PER_CLUSTER))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, nlist, faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical = True
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    queries = np.random.default_rng(seed).permutation(n)[: 2 * SAMPLE]
    tune, check = (queries, queries) if n < 2 * SAMPLE else (queries[:SAMPLE], queries[SAMPLE:])
    index.nprobe = _choose_nprobe(index, vectors, tune, k, min_recall + 0.2 * (1 - min_recall))
    return index, Tuning(nlist, index.nprobe, k, round(_recall(index, vectors, check, k), 4))


def search(index: faiss.Index, vectors: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest items of each trigger, the trigger itself left out: ids int32 and scores float32, both [B, k].

    Arguments: `vectors` float32 [items, d], `items` int32 [B]. Best first; id -1 and score -inf where a list ends.
    """
    scores, ids = index.search(np.ascontiguousarray(vectors[items]), k + 1)
    # The trigger is its own nearest neighbour, but not always first: duplicates tie with it.
    own = ids == items[:, None]
    own[~own.any(axis=1), -1] = True
    keep = ~own
    ids = ids[keep].reshape(len(items), k).astype(np.int32)
    scores = np.where(ids >= 0, scores[keep].reshape(len(items), k), -np.inf).astype(np.float32)
    return ids, scores


def search_exact(vectors: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `search`, over all items: what the index is measured against."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    return search(flat, vectors, items, k)


def on_gpu(index: faiss.Index) -> faiss.Index:
    """The index on the first GPU where this build of Faiss has one, else unchanged. A GPU search takes k <= 2048."""
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return index
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _choose_nprobe(index: faiss.IndexIVFFlat, vectors: np.ndarray, items: np.ndarray, k: int, goal: float) -> int:
    """Smallest nprobe that reaches the goal; all clusters always do."""
    exact = search_exact(vectors, items, k)[0]

    def reaches(nprobe: int) -> bool:
        index.nprobe = nprobe
        return _overlap(search(index, vectors, items, k)[0], exact) >= goal

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


def _overlap(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours that were found; 1 where there are none to find."""
    hits = sum(len(np.intersect1d(a[a >= 0], b[b >= 0], assume_unique=True)) for a, b in zip(exact, found, strict=True))
    wanted = int((exact >= 0).sum())
    return hits / wanted if wanted else 1.0
