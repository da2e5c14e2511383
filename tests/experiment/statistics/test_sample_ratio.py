"""The sample-ratio check."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from mtmh.errors import UserError
from mtmh.experiment.arms import read_arms, shares
from mtmh.experiment.statistics import sample_ratio


@pytest.mark.parametrize(
    ("users", "alarm"),
    [
        ({"a": 5000, "b": 5000}, False),
        ({"a": 5100, "b": 4900}, False),  # p = 0.047
        ({"a": 5160, "b": 4840}, False),  # p = 0.0014
        ({"a": 5170, "b": 4830}, True),  # p = 0.0007
        ({"a": 30, "b": 4}, True),
        ({"a": 12, "b": 4}, False),
        ({"a": 5000}, True),
    ],
)
def test_alarms_below_one_in_a_thousand_only(users: dict[str, int], alarm: bool) -> None:
    found = sample_ratio(users, {"a": 1, "b": 1})
    assert found.alarm is alarm
    assert found.alarm is (found.p < 0.001)


def test_shares_need_not_be_equal_nor_sum_to_one() -> None:
    arms = read_arms([{"name": "control", "weight": 9}, {"name": "treatment", "weight": 1}])
    assert not sample_ratio({"control": 9020, "treatment": 980}, shares(arms)).alarm
    found = sample_ratio({"control": 5000, "treatment": 5000}, shares(arms))
    assert found.alarm
    assert found.expected == pytest.approx({"control": 9000, "treatment": 1000})


def test_few_users_are_judged_exactly() -> None:
    assert sample_ratio({"a": 30, "b": 11}, {"a": 1, "b": 1}).p == pytest.approx(
        binomtest(11, 41, 0.5).pvalue
    )


def test_three_arms_are_judged_together() -> None:
    equal = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert sample_ratio({"a": 1000, "b": 1000, "c": 1000}, equal).p == 1.0
    assert sample_ratio({"a": 1000, "b": 1000, "c": 800}, equal).alarm


def test_it_alarms_about_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(0)
    counts = rng.binomial(2000, 0.5, 2000)
    p = np.array(
        [sample_ratio({"a": int(n), "b": 2000 - int(n)}, {"a": 1, "b": 1}).p for n in counts]
    )
    assert (p < 0.001).mean() < 0.003
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_nobody_at_all_is_no_alarm() -> None:
    found = sample_ratio({}, {"a": 1, "b": 1})
    assert math.isnan(found.p)
    assert not found.alarm


def test_users_where_none_can_be_are_an_alarm() -> None:
    assert sample_ratio({"a": 10, "b": 1}, {"a": 1, "b": 0}).alarm
    assert sample_ratio({"a": 10}, {"a": 1, "b": 0}).p == 1.0


def test_arms_without_a_share_are_named() -> None:
    with pytest.raises(UserError, match="users in arms without a share: c"):
        sample_ratio({"a": 1, "c": 1}, {"a": 1, "b": 1})
    with pytest.raises(UserError, match="shares must be 0 or above"):
        sample_ratio({"a": 1}, {"a": 0})
