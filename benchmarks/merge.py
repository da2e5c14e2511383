"""The quota merge of many users at once, beside the plain loop over users and candidates that it stands for."""

import numpy as np

from benchmarks.result import median_seconds, write
from mtmh.retrieval.merge import quota_merge

USERS, ITEMS, K = 1000, 2000, 500


def main() -> None:
    """Both heads offer 500 of 2,000 items a user, so many candidates come twice."""
    rng = np.random.default_rng(0)
    first, second = (np.argsort(rng.random((USERS, ITEMS)), axis=1)[:, :K].astype(np.int32) for _ in range(2))
    vectorized = USERS / median_seconds(lambda: quota_merge([first, second], [50, 50], K), 5)
    loop = USERS / median_seconds(lambda: [_merge(list(a), list(b), K) for a, b in zip(first, second, strict=True)], 3)
    write("merge", vectorized, "users/s", loop, {"baseline": "a Python loop a user", "k": K, "alpha": 50})


def _merge(engagement: list[int], relevance: list[int], k: int) -> list[int]:
    """Heads take turns; each offers its best candidate not yet taken."""
    taken: dict[int, None] = {}
    queues = [iter(engagement), iter(relevance)]
    while len(taken) < k:
        for queue in queues:
            taken.setdefault(next(item for item in queue if item not in taken))
    return list(taken)[:k]
