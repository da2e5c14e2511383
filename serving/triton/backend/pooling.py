"""One ranked list from the candidate lists of several triggers; as mtmh/retrieval/pool.py, without Numba."""

import numpy as np


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """p(candidate | trigger): softmax of similarity / temperature over each list, float32 [lists, k].

    `scores` float32 [lists, k], best first, -inf where a list ends.
    """
    best = np.where(np.isneginf(scores[:, :1]), np.float32(0), scores[:, :1])
    weight = np.exp((scores - best) / np.float32(temperature))
    return weight / np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)


class Pooling:
    """Ranks candidates by the sum of their votes. Holds scratch memory of a few numbers an item, for one request."""

    def __init__(self, items: int) -> None:
        self.total = np.zeros(items, np.float32)
        self.nearest = np.zeros(items, np.float32)
        self.entry = np.zeros(items, np.int64)
        self.excluded = np.zeros(items, bool)

    def rank(
        self, ids: np.ndarray, scores: np.ndarray, votes: np.ndarray, exclude: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first `size` candidates by the sum of their votes, equal ones in the order in which lists name them.

        `ids` int [lists, k], -1 from where a list ends, their `scores` and `votes` float32; `exclude` int, items to
        leave out. Returns item, sum of votes float32, best score float32 and the list that gave it; at most `size` of
        each. Sums are float32 in the order of the lists, as offline.
        """
        entries = np.arange(ids.size)
        flat, score, vote = ids.ravel(), scores.ravel(), votes.ravel()
        if flat.size and flat.min() < 0:
            entries = np.flatnonzero(flat >= 0)
            flat, score, vote = flat[entries], score[entries], vote[entries]
        if len(ids) > 1:
            item, total, nearest, entry = self._summed(flat, score, vote, entries)
        else:  # a single list names each item once, and best first
            item, total, nearest, entry = flat, vote, score, entries
        self.excluded[exclude] = True
        left = np.flatnonzero(~self.excluded[item])
        self.excluded[exclude] = False
        best = left[_first(total[left], size)] if len(ids) > 1 else left[:size]
        return item[best], total[best], nearest[best], entry[best] // max(ids.shape[1], 1)

    def _summed(
        self, flat: np.ndarray, score: np.ndarray, vote: np.ndarray, entries: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Each distinct item in the order met, the sum of its votes, its best score and the first entry that has it."""
        # Of equal indices in an assignment the last one wins: backwards, the first entry of each item stays.
        self.entry[flat[::-1]] = entries[::-1]
        item = flat[self.entry[flat] == entries]
        self.total[item], self.nearest[item] = 0, -np.inf
        np.add.at(self.total, flat, vote)
        np.maximum.at(self.nearest, flat, score)
        best = np.flatnonzero(score == self.nearest[flat])[::-1]
        self.entry[flat[best]] = entries[best]
        return item, self.total[item], self.nearest[item], self.entry[item]


def _first(total: np.ndarray, size: int) -> np.ndarray:
    """Places of the `size` highest, highest first, of equal ones the earlier."""
    if len(total) > size:
        bound = np.partition(total, len(total) - size)[len(total) - size]
        above, equal = np.flatnonzero(total > bound), np.flatnonzero(total == bound)
        chosen = np.sort(np.concatenate([above, equal[: size - len(above)]]))
    else:
        chosen = np.arange(len(total))
    return chosen[np.argsort(-total[chosen], kind="stable")]
