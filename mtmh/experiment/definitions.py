"""The numbers in the metrics' definitions (paper section 7), and the functions of set metrics."""

from dataclasses import dataclass

import numpy as np

from mtmh.exposures.records import LARGEST_VALUE, LONGEST_DWELL_SECONDS


@dataclass(frozen=True)
class Definitions:
    """What the paper leaves to the one who measures."""

    fresh_hours: int = 48  # an item is fresh until this age
    novel_days: int = 28  # an interest is novel without an engagement in so many days before
    novel_engagements: int = 1  # m: and with so many on the day
    interests: int = 5  # k: a user's top historical topics
    attribution_hours: int = (
        24  # an engagement without a request goes back to an impression at most so old
    )
    longest_dwell_seconds: float = (
        LONGEST_DWELL_SECONDS  # of one engagement, and of a user on one day
    )
    largest_value: float = LARGEST_VALUE  # of an engagement, to both sides of 0
    winsorized_share: float = (
        0.995  # users' totals above this percentile, of both arms together, count as it
    )


DEFINITIONS = Definitions()


def distinct(counts: np.ndarray, size: int) -> float:
    """How many there are."""
    return float(np.count_nonzero(counts))


def coverage(counts: np.ndarray, size: int) -> float:
    """Share of all `size` that are there; NaN when there could be none."""
    return np.count_nonzero(counts) / size if size else float("nan")


def entropy(counts: np.ndarray, size: int) -> float:
    """Shannon entropy of the shares, in bits; NaN when there are no counts."""
    total = counts.sum()
    if not total > 0:
        return float("nan")
    share = counts[counts > 0] / total
    return float(-(share * np.log2(share)).sum()) + 0.0  # no -0.0


def gini(counts: np.ndarray, size: int) -> float:
    """Gini coefficient over all `size`, those without a count included: 0 all alike, towards 1 all
    on one.

    Equals the mean absolute difference of two of them, divided by twice the mean. NaN when there
    are no counts.
    """
    present = np.sort(counts[counts > 0])
    total = present.sum()
    if not total > 0:
        return float("nan")
    size = max(size, len(present))
    rank = np.arange(size - len(present) + 1, size + 1)
    return float(2 * (rank * present).sum() / (size * total) - (size + 1) / size)
