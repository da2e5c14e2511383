"""Quotas that are not one fixed alpha: turns, a global search, and an alpha a request.

What `quota_merge` takes as quotas, found in other ways (related: arXiv 2410.16080, quotas over
retrieval channels). The serving router knows none of these: `mtmh bench quotas` measures whether
they pay. An alpha a request is learned from requests whose recall was measured at several alphas.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from mtmh.ragged import Ragged
from mtmh.retrieval.controllable import slots
from mtmh.retrieval.merge import Merged
from mtmh.retrieval.retriever import Pool, merge_pools

Quotas = tuple[float, ...]
FEATURES = ("log events", "log popularity", "focus", "agreement")
COMPARED = 100  # first candidates of either head that `agreement` looks at
RIDGE = 1.0  # of the regression, on standardized features


def snake_merge(lists: Sequence[np.ndarray], k: int) -> Merged:
    """Exactly `k` distinct candidates a request; the channels take turns: 0 1 2, 2 1 0, 0 1 2, ..

    In its turn a channel gives its best candidate that the list does not hold yet, so the channels
    share what is taken equally; `quota_merge` at equal quotas shares what is offered. A channel
    whose list ended passes. `lists` as in `quota_merge`.
    """
    columns = [np.full((len(lists[0]), k), -1, kind) for kind in (np.int32, np.int8, np.int32)]
    for row in range(len(lists[0])):
        for number, entry in enumerate(_turns([ids[row].tolist() for ids in lists], k)):
            for column, value in zip(columns, entry, strict=True):
                column[row, number] = value
    return Merged(*columns)


def _turns(lists: Sequence[list[int]], k: int) -> list[tuple[int, int, int]]:
    """Item, channel and rank of one request's candidates."""
    numbers = range(len(lists))
    # What is left of each list, with its ranks.
    left = [iter(enumerate(ids)) for ids in lists]
    entries: list[tuple[int, int, int]] = []
    taken, ended = {-1}, set[int]()
    for channel in cycle([*numbers, *reversed(numbers)]):
        if len(entries) == k or len(ended) == len(lists):
            return entries
        offer = next((offer for offer in left[channel] if offer[1] not in taken), None)
        # All of its list is taken or given: it passes from now on.
        if offer is None:
            ended.add(channel)
        else:
            taken.add(offer[1])
            entries.append((offer[1], channel, offer[0]))
    return entries


def cross_entropy_quotas(
    score: Callable[[Quotas], float],
    channels: int,
    seed: int,
    rounds: int = 8,
    draws: int = 24,
    elite: int = 6,
) -> Quotas:
    """The best quotas that the cross-entropy method finds, whole percents, 100 in all.

    Each round draws logits from a normal law; quotas are 100 x their softmax. The law moves to the
    mean and the deviation of the `elite` draws with the highest `score`, which is asked once for
    each distinct quotas. Of equal scores the first drawn.
    """
    rng, once = np.random.default_rng(seed), cache(score)
    mean, deviation = np.zeros(channels), np.full(channels, 2.0)  # two channels: 5 to 95 percent
    best: tuple[float, Quotas] = (-np.inf, ())
    for _ in range(rounds):
        # Draws, as whole percents by largest remainders.
        logits = rng.normal(mean, deviation, (draws, channels))
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        whole = slots(weight, 100, 1.0, np.full(weight.shape, 100))
        scores = np.array([once(tuple(map(float, quotas))) for quotas in whole])
        # The law moves to the elite; the best of all rounds stays.
        order = np.argsort(-scores, kind="stable")[:elite]
        mean, deviation = logits[order].mean(axis=0), logits[order].std(axis=0) + 1e-3
        if scores[order[0]] > best[0]:
            best = float(scores[order[0]]), tuple(map(float, whole[order[0]]))
    return best[1]


def merge_each(pools: Sequence[Pool], quotas: np.ndarray, size: int) -> Pool:
    """The quota merge of the channels' pools, with quotas of its own for each user.

    `quotas` float [U, channels], percent, each row 100 in all. Users of equal quotas are merged
    together.
    """
    distinct, group = np.unique(quotas, axis=0, return_inverse=True)
    shape = (len(quotas), size)
    item, trigger = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    score, channel = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int8)
    merged = Pool(item, score, trigger, channel)
    for number, row in enumerate(distinct):
        users = np.flatnonzero(group.ravel() == number)
        part = merge_pools([_take(pool, users) for pool in pools], tuple(row), size)
        for name in ("item", "score", "trigger", "channel"):
            getattr(merged, name)[users] = getattr(part, name)
    return merged


def _take(pool: Pool, users: np.ndarray) -> Pool:
    return Pool(pool.item[users], pool.score[users], pool.trigger[users], pool.channel[users])


def request_features(
    triggers: Ragged,
    seen: Ragged,
    popularity: np.ndarray,
    content: np.ndarray,
    pools: Sequence[Pool],
) -> np.ndarray:
    """FEATURES of each request, float64 [U, 4]: known before the merge, from user and triggers.

    The user's distinct items and the triggers' mean popularity, both as log(1 + n); the mean cosine
    of content between two triggers (1 of a single one); the share of the first head's COMPARED best
    candidates that are among the second's. `popularity` int [items], `content` float32 [items, c],
    unit rows.
    """
    n = np.maximum(triggers.lengths, 1)
    of_user = {"minlength": triggers.rows}
    popular = np.bincount(triggers.row_of, np.log1p(popularity[triggers.values]), **of_user) / n
    # For unit vectors the sum over pairs is |sum|^2 - n: no pair is formed.
    total = np.stack(
        [np.bincount(triggers.row_of, x[triggers.values], **of_user) for x in content.T]
    )
    pairs = np.maximum(n * (n - 1), 1)
    focus = np.where(n > 1, ((total**2).sum(axis=0) - n) / pairs, 1.0)
    first, second = (pool.item[:, :COMPARED] for pool in pools)
    user = np.arange(len(first))[:, None] * len(popularity)
    shared = np.isin(user + first, (user + second)[second >= 0]) & (first >= 0)
    return np.stack([np.log1p(seen.lengths), popular, focus, shared.mean(axis=1)], axis=1)


@dataclass(frozen=True)
class AlphaTable:
    """An alpha for each cell of requests: the best by smoothed mean recall."""

    alpha: np.ndarray  # float64 [cells]

    @classmethod
    def fit(
        cls, cell: np.ndarray, recall: np.ndarray, alphas: np.ndarray, cells: int, strength: float
    ) -> "AlphaTable":
        """From `recall` float64 [U, A] at each of `alphas` [A] of requests in `cell`, int [U].

            mean_ca = (sum of a cell's recall at alpha + strength x mean of all) / (n_c + strength)

        Of equal means the alpha nearest to the best of all requests; an empty cell has that one.
        """
        overall = recall.mean(axis=0)
        counts = np.bincount(cell, minlength=cells)[:, None]
        total = np.stack([np.bincount(cell, column, cells) for column in recall.T], axis=1)
        mean = (total + strength * overall) / (counts + strength)
        # The columns from the nearest to the best overall, as argmax takes the first.
        near = np.argsort(np.abs(alphas - alphas[overall.argmax()]), kind="stable")
        return cls(alphas[near][mean[:, near].argmax(axis=1)].astype(np.float64))

    def of(self, cell: np.ndarray) -> np.ndarray:
        """Alpha of each request, float64 [U]."""
        return self.alpha[cell]


@dataclass(frozen=True)
class AlphaRegression:
    """Alpha of a request by a logistic regression of which head alone has the higher recall."""

    mean: np.ndarray  # float64 [F], of the features
    deviation: np.ndarray  # float64 [F]
    weights: np.ndarray  # float64 [F], of standardized features
    shift: float

    @classmethod
    def fit(
        cls, features: np.ndarray, engagement: np.ndarray, relevance: np.ndarray, mean_alpha: float
    ) -> "AlphaRegression":
        """From float64 [U, F] and each head's recall [U]; the mean alpha over these: `mean_alpha`.

        A request counts by how far its heads' recalls are apart, so one where they agree says
        nothing. The features say who gets more than the mean, `mean_alpha` says how much that is:
        0 < mean_alpha < 100.
        """
        mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
        # Standardized, and a column of ones for the intercept.
        x = np.column_stack([(features - mean) / deviation, np.ones(len(features))])
        weight, is_engagement = np.abs(engagement - relevance), engagement > relevance
        ridge = np.diag([RIDGE] * features.shape[1] + [1e-6])
        w = np.zeros(x.shape[1])
        for _ in range(20):  # Newton's steps
            p = expit(x @ w)
            gradient = x.T @ (weight * (is_engagement - p)) - ridge @ w
            w = w + np.linalg.solve((x.T * (weight * p * (1 - p))) @ x + ridge, gradient)
        # The intercept found says which head is better; how much it gets is the caller's.
        logit = x[:, :-1] @ w[:-1]
        shift = brentq(lambda b: 100 * expit(logit + b).mean() - mean_alpha, -50.0, 50.0)
        return cls(mean, deviation, w[:-1], float(shift))

    def of(self, features: np.ndarray) -> np.ndarray:
        """Alpha of each request, float64 [U]."""
        logit = (features - self.mean) / self.deviation @ self.weights
        return np.asarray(100 * expit(logit + self.shift))
