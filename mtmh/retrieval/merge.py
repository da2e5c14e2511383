"""The quota merge: each channel gives its share of a list (paper section 5, there of two heads)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from mtmh.heads import HEADS


@dataclass(frozen=True)
class Merged:
    """Merged lists of R requests; -1 where all channels together hold fewer than K candidates."""

    item: np.ndarray  # int32 [R, K]
    channel: np.ndarray  # int8 [R, K], number of the channel that the candidate came from
    rank: np.ndarray  # int32 [R, K], place in that channel's own list, from 0

    def take(self, values_by_channel: Sequence[np.ndarray], fill: float) -> np.ndarray:
        """Values [R, K] of the merged candidates, each from its own channel's;
        `fill` where none is.

        `values_by_channel`: of each channel, what its list says of its candidates, [R, its width].
        """
        start = np.array([0, *accumulate(values.shape[1] for values in values_by_channel)])
        values = np.concatenate(values_by_channel, axis=1)
        if not values.shape[1]:  # no channel has a candidate
            return np.full(self.item.shape, fill, values.dtype)
        # Where there is no candidate, channel and rank are -1: that reads the last of all values.
        taken = values[np.arange(len(values))[:, None], start[self.channel] + self.rank]
        return np.where(self.item >= 0, taken, values.dtype.type(fill))


def quota_merge(lists: Sequence[np.ndarray], quotas: Sequence[float], k: int) -> Merged:
    """Exactly `k` distinct candidates a request, drawn from all channels in proportion to `quotas`.

    The channels take turns: with share s = quota / 100, a channel's i-th candidate (from 0) is due
    at (i + 1/2) / s, of equal ones the earlier channel's first. So of the first t offers, a channel
    of n has given s t to within 1/2 + s (n - 2) / 2: of two channels, the nearest whole number. A
    candidate that several offer stays where it is due first, and its later offers are dropped; the
    lists behind them back-fill in the same proportion, and where one ends the others go on. Only
    when all are exhausted does a row stay short (-1).

    Arguments: `lists` int32 [R, its width] of each channel, candidates best first, distinct within
    a row, -1 from where a list ends; `quotas` in percent, 100 in all (a channel without any comes
    after the others); `k` > 0. Raises ValueError when quotas or k are out of range.
    """
    if not all(quota >= 0 for quota in quotas) or abs(sum(quotas) - 100) > 1e-6 or k < 1:
        raise ValueError(
            f"quotas must be 0..100, 100 in all, and k at least 1: these are {quotas} and {k}"
        )
    turns, channel, rank = _turns(tuple(ids.shape[1] for ids in lists), tuple(quotas))
    # All offers of a request in the order due; a later offer of the same item is dropped.
    items = np.concatenate(lists, axis=1).take(turns, axis=1)
    is_first = _first_in_row(items)
    position = np.cumsum(is_first, axis=1)
    row, turn = np.nonzero(is_first & (position <= k))
    # What stays behind the last candidate of a row is -1.
    merged = Merged(*(np.full((len(items), k), -1, kind) for kind in (np.int32, np.int8, np.int32)))
    target = row, position[row, turn] - 1
    merged.item[target], merged.channel[target] = items[row, turn], channel[turn]
    merged.rank[target] = rank[turn]
    return merged


def quotas_at(
    alpha: float, channels: Sequence[str] = HEADS, quotas: Sequence[float] | None = None
) -> tuple[float, ...]:
    """Each channel's quota in percent: `alpha` for the engagement head; the others share the rest.

    They share it in proportion to their own `quotas`, in equal parts where there are none or all of
    theirs are 0. A channel alone has all, whatever alpha says; channels without the engagement head
    among them have their own quotas.
    """
    default = quotas or (100 / len(channels),) * len(channels)
    if "engagement" not in channels or len(channels) == 1:
        return tuple(default)
    others = [q for channel, q in zip(channels, default, strict=True) if channel != "engagement"]
    # What is left for all others goes to each by its share of them.
    shares = [q / sum(others) if sum(others) else 1 / len(others) for q in others]
    rest = iter([(100 - alpha) * share for share in shares])
    return tuple(alpha if channel == "engagement" else next(rest) for channel in channels)


def offers_passed(
    channel: int,
    rank: int,
    quotas: Sequence[float],
    lengths: Sequence[int],
) -> tuple[int, ...]:
    """How many of each channel's candidates `quota_merge` went through until it took the last one.

    That was `rank` of `channel`. Counted are those taken, and those dropped because another
    channel's came first. In proportion to the quotas, to one candidate a channel, as long as no
    list ended; the shares of what was *taken* need not be, as a candidate that several offer goes
    to one. `lengths`: of each channel's list.
    """
    due = (rank + 0.5) / _share(quotas[channel])
    offers = zip(quotas, lengths, strict=True)
    passed = (int(min(due * _share(quota) + 0.5, n)) for quota, n in offers)
    return tuple(rank + 1 if number == channel else n for number, n in enumerate(passed))


def _share(quota: float) -> float:
    """A channel without a quota comes after everything."""
    return max(quota / 100, 1e-9)


@lru_cache(maxsize=256)  # the requests of a server have few shapes
def _turns(
    widths: tuple[int, ...],
    quotas: tuple[float, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of such lists side by side in the order due, and channel and rank of each."""
    rank = np.concatenate([np.arange(width, dtype=np.int32) for width in widths])
    channel = np.repeat(np.arange(len(widths), dtype=np.int8), widths)
    share = np.array([_share(quota) for quota in quotas])[channel]
    turns = np.argsort((rank + 0.5) / share, kind="stable")
    return turns, channel[turns], rank[turns]


def _first_in_row(items: np.ndarray) -> np.ndarray:
    """Bool [R, N]: true at the first place of each distinct item of a row, never at -1."""
    order = np.argsort(items, axis=1, kind="stable")
    order += np.arange(len(items))[:, None] * items.shape[1]  # places in all: quicker than an axis
    ordered = items.take(order)
    first = ordered >= 0
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    is_first = np.empty_like(first)
    is_first.put(order, first)
    return is_first
