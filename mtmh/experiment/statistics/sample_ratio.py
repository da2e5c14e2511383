"""Did as many users land in each arm as should have? If not, nothing else that is compared can be
believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import chi2_contingency, chisquare, fisher_exact
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import SampleRatio as TwoArms

from mtmh.errors import UserError

ALARM = 0.001  # a low p, as an alarm leaves the whole comparison unjudged


@dataclass(frozen=True)
class SampleRatio:
    """Users by arm beside what the arms' shares let expect. p is NaN when there are no users at
    all.
    """

    observed: dict[str, int]
    expected: dict[str, float]
    p: float
    alarm: bool  # p < 0.001


def sample_ratio(
    users_by_arm: Mapping[str, int], expected_shares: Mapping[str, float]
) -> SampleRatio:
    """Check users by arm against expected shares (`mtmh.experiment.arms.shares`), relative to their
    sum.

    An arm without users may be left out of `users_by_arm`. Two arms: tea-tasting's check (exact
    below 1,000 users, the chi-square with a continuity correction above); more: the chi-square over
    all of them. Raises UserError for users in an arm that has no share, and for shares that sum to
    nothing.
    """
    if unexpected := sorted(set(users_by_arm) - set(expected_shares)):
        raise UserError(
            f"users in arms without a share: {', '.join(unexpected)}. The experiment's arms: "
            f"{', '.join(expected_shares)}."
        )
    whole = sum(expected_shares.values())
    if not (whole > 0 and min(expected_shares.values()) >= 0):
        raise UserError(
            "the arms' shares must be 0 or above, and some above it; found "
            f"{dict(expected_shares)}."
        )
    observed = {arm: int(users_by_arm.get(arm, 0)) for arm in expected_shares}
    users = sum(observed.values())
    expected = {arm: users * share / whole for arm, share in expected_shares.items()}
    # p of the arms that should have users; exact where no test is needed.
    arms = [arm for arm in observed if expected[arm]]
    if not users:
        p = float("nan")
    elif any(observed[arm] for arm in observed if arm not in arms):
        p = 0.0
    elif len(arms) == 1:
        p = 1.0
    elif len(arms) > 2:
        counts = [observed[arm] for arm in arms]
        p = float(chisquare(counts, [expected[arm] for arm in arms]).pvalue)
    else:
        aggregates = {arm: Aggregates(count_=observed[arm]) for arm in arms}
        ratio = TwoArms({arm: expected[arm] for arm in arms})
        p = float(ratio.analyze(aggregates, control=arms[0], treatment=arms[1]).pvalue)
    return SampleRatio(observed, expected, p, p < ALARM)


@dataclass(frozen=True)
class NeverServed:
    """Users by arm who engaged and were never served, of all its users. p is NaN when there are
    none, or no others.
    """

    users: dict[str, int]
    of: dict[str, int]
    p: float  # of as large a share of them in every arm
    alarm: bool  # p < 0.001


def never_served(served_by_arm: Mapping[str, int], others_by_arm: Mapping[str, int]) -> NeverServed:
    """Whether users who engaged without being served are as frequent in each arm: else an arm's
    exposures are lost.

    Two arms: Fisher's exact test; more: the chi-square.
    """
    users = {arm: int(others_by_arm.get(arm, 0)) for arm in served_by_arm}
    of = {arm: served + users[arm] for arm, served in served_by_arm.items()}
    table = [(served_by_arm[arm], users[arm]) for arm in users if of[arm]]
    p = float("nan")
    if len(table) > 1 and all(map(sum, zip(*table, strict=True))):
        p = float((fisher_exact(table) if len(table) == 2 else chi2_contingency(table)).pvalue)
    return NeverServed(users, of, p, p < ALARM)
