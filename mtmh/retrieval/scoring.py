"""The mathematics of retrieval, each formula once: for the library, the router
and what runs in Triton.

This file is copied beside each of Triton's models (serving/triton/models.py), so it imports numpy
and faiss alone, and runs on Python 3.10 and numpy 1 as well.
"""

from collections.abc import Mapping

import faiss
import numpy as np

NEIGHBOURS = 10  # of a cold item, by content
TINY, NOTHING = np.finfo(np.float32).tiny, np.float32(-np.inf)


def drop_self(
    ids: np.ndarray,
    scores: np.ndarray,
    triggers: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Lists [B, k] of lists [B, k + 1] without the trigger itself, or else without the last entry.

    `ids` int and `scores` float32, best first, id -1 where a list ends; `triggers` int [B], the row
    of each trigger, -1 for one that the index does not hold. The score is -inf where a list ends.
    """
    # A trigger is its own nearest neighbour, but not always first: duplicates tie with it.
    dropped = (ids == triggers[:, None]) & (ids >= 0)
    dropped[~dropped.any(axis=1), -1] = True
    left = len(ids), ids.shape[1] - 1
    ids, scores = ids[~dropped].reshape(left), scores[~dropped].reshape(left)
    return ids, np.where(ids >= 0, scores, NOTHING)


def within(index: faiss.Index, allowed: np.ndarray) -> faiss.SearchParameters:
    """Parameters of a search of `index` that gives the rows `allowed` alone, int [n], exactly.

    An IVF index reads all its lists: by nprobe, few of a narrow set would be met, and a list would
    end short though there are more. A bit an item is what that costs, not a product.
    """
    bits = np.zeros(index.ntotal, bool)
    bits[allowed] = True
    # Faiss' stubs have the constructors of C++; Python's keep what they are given alive.
    selector = faiss.IDSelectorBitmap(  # type: ignore[call-arg]
        np.packbits(bits, bitorder="little")  # type: ignore[arg-type]
    )
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(  # type: ignore[call-arg]
            sel=selector, nprobe=index.nlist
        )
    return faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]


def softmax_over_list(scores: np.ndarray, temperature: float) -> np.ndarray:
    """p(candidate | trigger): the softmax of similarity / temperature, float32 [lists, k].

    InfoNCE trained this softmax (at tau_p); here it runs over what was retrieved. It makes lists
    comparable: one with few close neighbours says more about each than one that is a little like
    everything. `scores` float32 [lists, k], best first, -inf where a list ends.
    """
    best = np.where(np.isneginf(scores[:, :1]), np.float32(0), scores[:, :1])
    weight = np.exp((scores - best) / np.float32(temperature))
    return weight / np.maximum(weight.sum(axis=1, keepdims=True), TINY)


class Pooling:
    """One ranked list from the lists of one user's triggers (paper section 6).

    With `softmax_over_list` as votes that is the order of p(candidate | user), the mixture of the
    triggers' softmaxes: what several triggers retrieve comes before what one retrieves as well.
    Holds scratch memory of a few numbers an item, for one user at a time.
    """

    def __init__(self, items: int) -> None:
        self.total = np.zeros(items, np.float32)
        self.nearest = np.zeros(items, np.float32)
        self.entry = np.zeros(items, np.int64)
        self.excluded = np.zeros(items, bool)

    def rank(
        self, ids: np.ndarray, scores: np.ndarray, votes: np.ndarray, exclude: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first `size` candidates by the sum of their votes.

        Equal ones stand in the order in which the lists name them. `ids` int [lists, k], -1 from
        where a list ends, their `scores` and `votes` float32; `exclude` int, items to leave out.
        Returns item, sum of votes float32, best score float32 and the list that gave it; at most
        `size` of each. Sums are float32, in the order of the lists.
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
        best = left[first_of(total[left], size)] if len(ids) > 1 else left[:size]
        return item[best], total[best], nearest[best], entry[best] // max(ids.shape[1], 1)

    def _summed(
        self, flat: np.ndarray, score: np.ndarray, vote: np.ndarray, entries: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Each distinct item in the order met: sum of votes, best score, first entry with it."""
        # Of equal indices in an assignment the last wins: backwards, an item's first entry stays.
        self.entry[flat[::-1]] = entries[::-1]
        item = flat[self.entry[flat] == entries]
        self.total[item], self.nearest[item] = 0, NOTHING
        np.add.at(self.total, flat, vote)
        np.maximum.at(self.nearest, flat, score)
        best = np.flatnonzero(score == self.nearest[flat])[::-1]
        self.entry[flat[best]] = entries[best]
        return item, self.total[item], self.nearest[item], self.entry[item]


def first_of(total: np.ndarray, size: int) -> np.ndarray:
    """Indices of the `size` highest, highest first, of equal ones the earlier."""
    chosen = np.arange(len(total))
    if len(total) > size:
        bound = np.partition(total, len(total) - size)[len(total) - size]
        above, equal = np.flatnonzero(total > bound), np.flatnonzero(total == bound)
        chosen = np.sort(np.concatenate((above, equal[: size - len(above)])))
    return chosen[np.argsort(-total[chosen], kind="stable")]


def rank_normalize(
    score: np.ndarray,
    logits: np.ndarray,
    is_candidate: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates by p(candidate | user) of retrieval times exp(logit) of the preranker.

    That product of experts, normalized over a row's candidates, is their new score. `score` and
    `logits` float32 [R, C], `is_candidate` bool [R, C]. Returns the order of each row, int64 [R,
    C], of equal candidates the earlier first, and the scores float32 [R, C] in it, -inf behind the
    last.
    """
    log_p = np.log(np.maximum(score, TINY)) + logits
    best = log_p.max(axis=1, keepdims=True, initial=NOTHING, where=is_candidate)
    log_p = np.where(is_candidate, log_p - best, NOTHING)
    order = np.argsort(-log_p, axis=1, kind="stable")
    weight = np.exp(log_p)
    p = weight / np.maximum(weight.sum(axis=1, keepdims=True), TINY)
    normalized = np.where(is_candidate, p, NOTHING).astype(np.float32)
    return order, np.take_along_axis(normalized, order, axis=1)


def preranker_logits(
    item: np.ndarray,
    users: Mapping[str, np.ndarray],
    items: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    new: np.ndarray,
) -> np.ndarray:
    """The weighted sum of the tasks' logits, float32 [R, C], of candidates int [R, C] (-1 = none).

    Task -> `users` float32 [R, dim], `items` float32 [items, dim] and weight; `new` bool [items],
    those that T1 does not know. T1 says nothing of how wanted these are, so those among a row's
    candidates are as good as the others on average: what counts is which of them. Where there is no
    candidate stands a number without meaning.
    """
    rows = np.maximum(item, 0)
    logits = np.zeros(item.shape, np.float32)
    for task, weight in weights.items():
        weighted = np.float32(weight) * users[task]
        logits += (items[task].take(rows, axis=0) @ weighted[:, :, None])[:, :, 0]
    is_candidate, is_new = item >= 0, new[rows]
    lift = _row_means(logits, is_candidate & ~is_new) - _row_means(logits, is_candidate & is_new)
    return logits + np.where(is_new, lift, np.float32(0))


def _row_means(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean of the chosen values of each row, float32 [R, 1]; 0 where none is."""
    count = chosen.sum(axis=1, keepdims=True, dtype=np.float32)
    mean: np.ndarray = (values * chosen).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    return mean


def mlp(
    x: np.ndarray,
    weights: Mapping[str, np.ndarray],
    layers: int,
    name: str = "",
) -> np.ndarray:
    """An MLP of `layers` (ReLU between) beside a linear map where there is one: two_heads.Head.

    `x` float32 [n, in]; `weights` holds `name`mlp.0.weight [out, in], `name`mlp.0.bias [out], and
    so on for every second number.
    """
    deep = x
    for layer in range(layers):
        key = f"{name}mlp.{2 * layer}"
        deep = (deep.clip(0) if layer else deep) @ weights[f"{key}.weight"].T + weights[
            f"{key}.bias"
        ]
    beside = weights.get(f"{name}linear.weight")
    return deep if beside is None else deep + x @ beside.T


class Donors:
    """Items that T1 knows and that have content: cold items are placed among these.

    Training never saw a cold item's id: what the model knows of it is what all unknown items share,
    its creator and its numbers (and without train.id_dropout an unknown id was never trained). So
    it takes the direction of the mean of its NEIGHBOURS nearest donors by content, weighted as the
    teacher of the distillation weighs them: softmax of cosine / tau_q. The paper leaves cold items
    open. Arguments: `rows` int [donors], and an exact index of their content, unit rows.
    """

    def __init__(self, rows: np.ndarray, index: faiss.Index) -> None:
        self.rows, self.index = rows, index

    @classmethod
    def among(cls, in_train: np.ndarray, content: np.ndarray) -> "Donors":
        """Of all items, bool [items] and float32 [items, c]: those in T1 that have content."""
        rows = np.flatnonzero(in_train & content.any(axis=1))
        index = faiss.IndexFlatIP(content.shape[1])
        index.add(np.ascontiguousarray(content[rows]))
        return cls(rows, index)

    def place_by_content(
        self,
        cold: np.ndarray,
        content: np.ndarray,
        vectors: np.ndarray,
        tau_q: float,
    ) -> np.ndarray:
        """Where a head has the cold items, float32 [n, d], unit rows.

        `cold` float32 [n, d] are the vectors that the model gives them, which stay where `content`
        float32 [n, c], unit rows, is zero; `vectors` float32 [items, d] are the head's.
        """
        has_content = content.any(axis=1)
        if not len(self.rows) or not has_content.any():
            return cold
        query = np.ascontiguousarray(content[has_content])
        cosine, near = self.index.search(query, min(NEIGHBOURS, len(self.rows)))
        weight = np.exp((cosine - cosine[:, :1]) / tau_q)
        mean = np.einsum("ik,ikd->id", weight, vectors[self.rows[near]])
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        placed = cold.copy()
        # Neighbours that cancel out say nothing.
        direction = mean / np.maximum(length, 1e-6)
        placed[has_content] = np.where(length > 1e-6, direction, cold[has_content])
        return placed


def place_cold(
    vectors: np.ndarray,
    content: np.ndarray,
    in_train: np.ndarray,
    tau_q: float,
) -> np.ndarray:
    """A head's vectors float32 [items, d] with the cold items placed among the others by content.

    `content` float32 [items, c], unit rows, zero for an item without content; `in_train` bool
    [items], those that T1 knows: the others are cold.
    """
    placed = vectors.copy()
    placed[~in_train] = Donors.among(in_train, content).place_by_content(
        vectors[~in_train], content[~in_train], vectors, tau_q
    )
    return placed
