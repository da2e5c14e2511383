"""Candidates per head: the tuned IVF index beside exact search, 100,000 items, 1,000 candidates a trigger."""

import numpy as np

from benchmarks.result import median_seconds, write
from mtmh.retrieval.index import build_index, search, search_exact

ITEMS, DIM, CLUSTERS, QUERIES, K = 100_000, 128, 500, 256, 1000


def main() -> None:
    """Vectors in clusters, as a trained head gives them; both searches answer the same triggers."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIM))
    vectors = centres[rng.integers(0, CLUSTERS, ITEMS)] + rng.standard_normal((ITEMS, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index, tuning = build_index(vectors, K, min_recall=0.95, seed=0)
    triggers = rng.permutation(ITEMS)[:QUERIES].astype(np.int32)
    approximate = QUERIES / median_seconds(lambda: search(index, vectors, triggers, K), 5)
    exact = QUERIES / median_seconds(lambda: search_exact(vectors, triggers, K), 5)
    write("retrieval", approximate, "triggers/s", exact, {"baseline": "exact search", **tuning.as_dict()})
