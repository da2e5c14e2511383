"""The controllable merge of clusters (Divide and Conquer, arXiv 2302.02657; paper.md section 8).

Of M slots of a user's list, cluster k gets M_k = M p_k^a / sum_j p_j^a, with p_k the user's intent:
a = 0 gives every cluster the same, a large gives the likeliest all. Whole numbers by largest
remainders; what an exhausted cluster cannot fill is divided among the others in the same way.
"""

from collections.abc import Sequence

import numpy as np

from mtmh.ragged import Ragged


def intent(history: Ragged, of_item: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """p(cluster | user) by smoothed frequencies, float64 [users, K]; rows add up to 1.

        p_k = (n_k + strength * prior_k) / (n + strength)

    with n_k the items of the user's history in cluster k. `history` a row of int32 items a user,
    `of_item` int32 [items], `prior` float64 [K], the share of all engagements, summing to 1. It is
    no learned model: it knows neither order nor age of the history. A user without history has the
    prior. Raises ValueError unless `strength` > 0.
    """
    if strength <= 0:
        raise ValueError(f"a strength above 0 is needed, or some p are 0: this is {strength}")
    clusters = len(prior)
    user_and_cluster = history.row_of * clusters + of_item[history.values]
    counts = np.bincount(user_and_cluster, minlength=history.rows * clusters).reshape(-1, clusters)
    p: np.ndarray = (counts + strength * prior) / (history.lengths[:, None] + strength)
    return p


def slots(p: np.ndarray, total: int, exponent: float, available: np.ndarray) -> np.ndarray:
    """M_k of each user, int64 [R, K]; a row adds up to min(total, all that is available).

    Arguments: `p` float [R, K], not negative; `total` M; `exponent` a, not negative; `available`
    int [R, K], candidates that each cluster has. Of equal remainders the earlier cluster's goes
    first. Raises ValueError when p, total or exponent are out of range.
    """
    p, available = np.asarray(p, np.float64), np.asarray(available, np.int64)
    if not ((p >= 0) & np.isfinite(p)).all() or total < 0 or not 0 <= exponent < np.inf:
        raise ValueError(f"p, total, exponent may not be negative: these are {total}, {exponent}")
    given = np.zeros(p.shape, np.int64)
    # Each round divides what is left among the clusters that have more; one at least fills up.
    while True:
        left = np.minimum(total, available.sum(axis=1)) - given.sum(axis=1)
        if not left.any():
            return given
        is_open = given < available
        share = left[:, None] * _weights(p, exponent, is_open)
        given = np.minimum(given + _rounded(share, left, is_open), available)


def merge_clusters(items: Sequence[np.ndarray], given: np.ndarray) -> tuple[np.ndarray, ...]:
    """One list a user: the first M_k of each cluster's candidates, in turns.

    As in `quota_merge`, a cluster's i-th (from 0) is due at (i + 1/2) / M_k, so every beginning of
    the list is divided as the whole; of equal ones the earlier cluster's is first. Clusters share
    no items, so there is nothing to drop. Arguments: `items` int32 [R, width] of each cluster, best
    first, -1 from where a list ends; `given` int [R, K] of `slots`. Returns item int32, cluster
    int32 and rank int32 in the cluster's list, each [R, longest]; -1 behind a row's last.
    """
    rank = np.concatenate([np.arange(part.shape[1]) for part in items])
    cluster = np.repeat(np.arange(len(items)), [part.shape[1] for part in items])
    offered = np.concatenate(items, axis=1)
    quota = given[:, cluster]
    is_taken = (rank < quota) & (offered >= 0)
    due = np.where(is_taken, (rank + 0.5) / np.maximum(quota, 1), np.inf)
    # Only as many columns as the longest list has.
    longest = int(is_taken.sum(axis=1).max(initial=0))
    order = np.argsort(due, axis=1, kind="stable")[:, :longest]
    taken = np.take_along_axis(is_taken, order, axis=1)
    item = np.where(taken, np.take_along_axis(offered, order, axis=1), -1)
    columns = (item, np.where(taken, cluster[order], -1), np.where(taken, rank[order], -1))
    return tuple(column.astype(np.int32) for column in columns)


def _weights(p: np.ndarray, exponent: float, is_open: np.ndarray) -> np.ndarray:
    """p^a over its sum among the open clusters of each row, [R, K]; equal where all of these are 0.

    In logarithms, relative to the largest: 0.1^400 is 0 in float64, and would leave nothing to
    divide by.
    """
    with np.errstate(divide="ignore"):
        log_p = np.where(is_open, np.log(p), -np.inf)
    best = log_p.max(axis=1, keepdims=True)
    # Without a possible cluster, or at a = 0 (where 0^0 is 1), all open ones weigh the same.
    if exponent == 0:
        weight = is_open.astype(np.float64)
    else:
        distance = np.where(np.isneginf(log_p), -np.inf, log_p - np.where(best > -np.inf, best, 0))
        weight = np.where(np.isneginf(best), is_open, np.exp(exponent * distance))
    normalized: np.ndarray = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return normalized


def _rounded(share: np.ndarray, left: np.ndarray, is_open: np.ndarray) -> np.ndarray:
    """Largest remainders: whole numbers int64 [R, K] that add up to `left` int64 [R]."""
    whole = np.floor(share).astype(np.int64)
    missing = left - whole.sum(axis=1)
    # The order of the remainders; what is closed comes last.
    remainder = np.where(is_open, share - whole, -1.0)
    order = np.argsort(-remainder, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    rounded: np.ndarray = whole + (rank < missing[:, None])
    return rounded
