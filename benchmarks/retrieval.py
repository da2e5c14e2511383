"""Retrieval alone: the tuned index beside exact search, and the quota merge beside the loop that it
stands for."""

import numpy as np

from benchmarks.result import median_seconds, write
from mtmh.retrieval.index import build_index, search, search_exact
from mtmh.retrieval.merge import quota_merge

ITEMS, DIM, CLUSTERS, QUERIES, K = 100_000, 128, 500, 256, 1000
MERGE_USERS, MERGE_ITEMS, MERGE_K = 1000, 2000, 500


def main() -> None:
    """Candidates of one head: 1,000 of 100,000 items a trigger, by the tuned IVF index and by exact
    search."""
    # Vectors in clusters, as a trained head gives them; both searches answer the same triggers.
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIM))
    vectors = centres[rng.integers(0, CLUSTERS, ITEMS)] + rng.standard_normal((ITEMS, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index, tuning = build_index(vectors, K, min_recall=0.95, seed=0)
    triggers = rng.permutation(ITEMS)[:QUERIES].astype(np.int32)
    approximate = QUERIES / median_seconds(lambda: search(index, vectors, triggers, K), 5)
    exact = QUERIES / median_seconds(lambda: search_exact(vectors, triggers, K), 5)
    write(
        "retrieval",
        approximate,
        "triggers/s",
        exact,
        {"baseline": "exact search", **tuning.as_dict()},
    )


def merge() -> None:
    """The quota merge of 1,000 users at once, beside a loop over users and candidates."""
    # Both heads offer 500 of 2,000 items a user, so many candidates come twice.
    rng = np.random.default_rng(0)
    first, second = (
        np.argsort(rng.random((MERGE_USERS, MERGE_ITEMS)), axis=1)[:, :MERGE_K].astype(np.int32)
        for _ in range(2)
    )
    vectorized = MERGE_USERS / median_seconds(
        lambda: quota_merge([first, second], [50, 50], MERGE_K), 5
    )

    def take_turns() -> list[list[int]]:
        """Each head in turn offers its best candidate that is not yet taken."""
        merged = []
        for lists in zip(first, second, strict=True):
            taken: dict[int, None] = {}
            queues = [iter(list(candidates)) for candidates in lists]
            while len(taken) < MERGE_K:
                for queue in queues:
                    taken.setdefault(next(item for item in queue if item not in taken))
            merged.append(list(taken)[:MERGE_K])
        return merged

    loop = MERGE_USERS / median_seconds(take_turns, 3)
    details = {"baseline": "a Python loop a user", "k": MERGE_K, "alpha": 50}
    write("merge", vectorized, "users/s", loop, details)
