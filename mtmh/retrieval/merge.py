"""The quota merge: alpha % from the engagement head, the rest from the relevance head (paper section 5)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ENGAGEMENT, RELEVANCE = 0, 1


@dataclass(frozen=True)
class Merged:
    """Merged lists of R requests. `item` is -1 where both heads together hold fewer than K candidates."""

    item: np.ndarray  # int32 [R, K]
    head: np.ndarray  # int8 [R, K], ENGAGEMENT or RELEVANCE, -1 where there is no item
    rank: np.ndarray  # int32 [R, K], place in that head's own list, from 0


def quota_merge(engagement: np.ndarray, relevance: np.ndarray, alpha: float, k: int) -> Merged:
    """Exactly `k` distinct candidates a request, drawn from both heads in proportion to `alpha`.

    The heads take turns: with share s, a head's i-th candidate (from 0) is due at (i + 1/2) / s, so that every prefix
    of the list holds alpha % of the engagement head, to the nearest whole candidate. A candidate that both offer
    stays where it is due first, and its later offer is dropped; the lists behind it back-fill in the same proportion,
    and where one ends the other goes on. Only when both are exhausted does a row stay short (-1).

    Arguments: `engagement` int32 [R, A] and `relevance` int32 [R, B], each head's candidates best first, distinct
    within a row, -1 from where a list ends; `alpha` in percent, 0..100 (100: the engagement head's list, filled up);
    `k` > 0. Raises ValueError when alpha or k is out of range.
    """
    if not 0 <= alpha <= 100 or k < 1:
        raise ValueError(f"alpha must be 0..100 and k at least 1, found alpha {alpha} and k {k}")
    turns, head, rank = _turns(engagement.shape[1], relevance.shape[1], alpha)
    items = np.concatenate([engagement, relevance], axis=1).take(turns, axis=1)
    place = np.cumsum(first := _first_in_row(items), axis=1)
    row, turn = np.nonzero(first & (place <= k))
    merged = Merged(*(np.full((len(items), k), -1, kind) for kind in (np.int32, np.int8, np.int32)))
    at = row, place[row, turn] - 1
    merged.item[at], merged.head[at], merged.rank[at] = items[row, turn], head[turn], rank[turn]
    return merged


def offers_passed(head: int, rank: int, alpha: float, lengths: tuple[int, int]) -> tuple[int, int]:
    """How many of each head's candidates `quota_merge` went through until it took the last one, `rank` of `head`.

    Those taken, and those dropped because the other head's came first. In proportion to alpha, to one candidate, as
    long as no list ended; the shares of what was *taken* need not be, as a candidate that both offer goes to one.
    `lengths`: of the engagement and the relevance head's list.
    """
    due = (rank + 0.5) / max(_share(head, alpha), 1e-9)
    other = 1 - head
    before = int(min(due * _share(other, alpha) + 0.5, lengths[other]))
    return (rank + 1, before) if head == ENGAGEMENT else (before, rank + 1)


def _share(head: int, alpha: float) -> float:
    return (alpha if head == ENGAGEMENT else 100 - alpha) / 100


@lru_cache(maxsize=256)  # a server asks for the same again and again
def _turns(engagement: int, relevance: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For lists of these widths: their columns side by side in the order due, and the head and rank of each."""
    widths = [engagement, relevance]
    rank = np.concatenate([np.arange(width, dtype=np.int32) for width in widths])
    head = np.repeat(np.array([ENGAGEMENT, RELEVANCE], dtype=np.int8), widths)
    share = np.where(head == ENGAGEMENT, alpha, 100 - alpha) / 100
    # A head without a share comes after everything; equal turns go to the engagement head.
    turns = np.argsort((rank + 0.5) / np.maximum(share, 1e-9), kind="stable")
    return turns, head[turns], rank[turns]


def _first_in_row(items: np.ndarray) -> np.ndarray:
    """Bool [R, N]: true at the first place of each distinct item of a row, never at -1."""
    order = np.argsort(items, axis=1, kind="stable")
    order += np.arange(len(items))[:, None] * items.shape[1]  # places in all of it: quicker than along an axis
    ordered = items.take(order)
    first = ordered >= 0
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    found = np.empty_like(first)
    found.put(order, first)
    return found
