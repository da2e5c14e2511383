"""The numbers in the metrics' definitions (paper section 7), in one place."""

from dataclasses import dataclass

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
