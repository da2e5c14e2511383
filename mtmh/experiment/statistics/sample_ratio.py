"""Did as many users land in each arm as should have? If not, nothing else that is compared can be believed."""

from collections.abc import Mapping
from dataclasses import dataclass

ALARM = 0.001


@dataclass(frozen=True)
class SampleRatio:
    """Users by arm beside what the arms' shares let expect. p is NaN when there are no users at all."""

    observed: dict[str, int]
    expected: dict[str, float]
    p: float
    alarm: bool  # p < 0.001


def sample_ratio(users_by_arm: Mapping[str, int], expected_shares: Mapping[str, float]) -> SampleRatio:
    """Check users by arm against expected shares (`mtmh.experiment.arms.shares`), relative to their sum.

    An arm without users may be left out of `users_by_arm`.
    Raises UserError for users in an arm that has no share, and for shares that sum to nothing.
    """
    raise NotImplementedError
