"""The quota merge: alpha % from the engagement head, the rest from the relevance head (paper section 5)."""

from dataclasses import dataclass

import numpy as np

ENGAGEMENT, RELEVANCE = 0, 1


@dataclass(frozen=True)
class Merged:
    """Merged lists of R requests. `item` is -1 where both heads together hold fewer than K candidates."""

    item: np.ndarray  # int32 [R, K]
    head: np.ndarray  # int8 [R, K], ENGAGEMENT or RELEVANCE, -1 where there is no item
    rank: np.ndarray  # int32 [R, K], place in that head's own list, from 0


def quota_merge(engagement: np.ndarray, relevance: np.ndarray, alpha: float, k: int) -> Merged:
    """Exactly `k` distinct candidates a request: round(alpha * k / 100) of the engagement head, the rest of the other.

    Arguments: `engagement` int32 [R, A] and `relevance` int32 [R, B], each head's candidates best first, distinct
    within a row, -1 from where a list ends; `alpha` in percent, 0..100; `k` > 0. A candidate both heads offer counts
    for the head that ranks it higher relative to its quota. Where one head runs short, the other back-fills; only
    when both are exhausted does a row stay short (-1). The order interleaves both heads in proportion to alpha, so
    every prefix of the list holds about the same mix.

    Raises ValueError when alpha or k is out of range.
    """
    if not 0 <= alpha <= 100 or k < 1:
        raise ValueError(f"alpha must be 0..100 and k at least 1, found alpha {alpha} and k {k}")
    items = np.concatenate([engagement, relevance], axis=1)
    rank = np.concatenate([np.arange(engagement.shape[1]), np.arange(relevance.shape[1])]).astype(np.int32)
    head = np.repeat(np.array([ENGAGEMENT, RELEVANCE], dtype=np.int8), [engagement.shape[1], relevance.shape[1]])
    owned = _first_offers(items, _turn(rank, head, alpha))
    # A head's place counts its own candidates only: those that the other head owns leave no hole.
    place = np.where(
        head == ENGAGEMENT, np.cumsum(owned & (head == ENGAGEMENT), 1), np.cumsum(owned & (head == RELEVANCE), 1)
    )
    quota = round(alpha * k / 100)
    chosen = owned & (place <= np.where(head == ENGAGEMENT, quota, k - quota))
    # A head with fewer candidates than its quota has none to spare, so all spare ones come from the other head.
    spare = owned & ~chosen
    chosen |= spare & (np.cumsum(spare, axis=1) <= k - chosen.sum(axis=1, keepdims=True))
    turn = np.where(chosen, _turn(place - 1, head, alpha), np.inf)
    order = np.argsort(turn, axis=1, kind="stable")[:, :k]
    filled = np.take_along_axis(chosen, order, axis=1)
    return Merged(
        item=_pad(np.where(filled, np.take_along_axis(items, order, axis=1), -1), k, np.int32),
        head=_pad(np.where(filled, head[order], -1), k, np.int8),
        rank=_pad(np.where(filled, rank[order], -1), k, np.int32),
    )


def _turn(rank: np.ndarray, head: np.ndarray, alpha: float) -> np.ndarray:
    """When a head's candidate of that rank is due: the i-th of a head with share s at (i + 1/2) / s."""
    share = np.where(head == ENGAGEMENT, alpha, 100 - alpha) / 100
    return np.asarray((rank + 0.5) / np.maximum(share, 1e-9))  # a head without a share comes after everything


def _first_offers(items: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Bool [R, A + B]: true at the earliest offer of each distinct item of a row, never at -1."""
    by_turn = np.argsort(turn, kind="stable")
    by_item = np.argsort(items[:, by_turn], axis=1, kind="stable")
    ordered = np.take_along_axis(items[:, by_turn], by_item, axis=1)
    first = ordered >= 0
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    owned = np.zeros_like(first)
    np.put_along_axis(owned, by_turn[by_item], first, axis=1)
    return owned


def _pad(values: np.ndarray, k: int, dtype: type) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, max(0, k - values.shape[1]))), constant_values=-1).astype(dtype)
