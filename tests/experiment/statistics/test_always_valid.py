"""The always-valid interval: its formula, and what looking every day does to it and to the fixed
one.
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from mtmh.experiment.statistics.contrast import multiplier


def looked_at(looks: int, tests: int, within_user: float) -> tuple[float, float]:
    """Share of tests without effect that ever leave the fixed, and the always-valid interval.

    within_user: correlation of the days of one user; the running mean of such days, in standard
    errors.
    """
    rng = np.random.default_rng(0)
    own = np.sqrt(within_user) * rng.standard_normal((tests, 1))
    days = own + np.sqrt(1 - within_user) * rng.standard_normal((tests, looks))
    day = np.arange(1, looks + 1)
    z = np.abs(days.cumsum(axis=1)) / np.sqrt(day * (1 + (day - 1) * within_user))
    return float((z > 1.96).any(axis=1).mean()), float(
        (z > multiplier(day / looks)).any(axis=1).mean()
    )


@pytest.mark.parametrize("within_user", [0.0, 0.3])
def test_it_may_be_looked_at_every_day(within_user: float) -> None:
    fixed, always = looked_at(28, 20_000, within_user)
    assert fixed > 0.1
    assert always < 0.05


def test_it_is_the_recipe_s_formula() -> None:
    n, planned, a = 300.0, 1000.0, 0.05
    r = (-2 * np.log(a) + np.log(-2 * np.log(a) + 1)) / planned
    expected = np.sqrt(2 * (n * r + 1) / (n * r) * np.log(np.sqrt(n * r + 1) / a))
    assert multiplier(np.array([n / planned]))[0] == pytest.approx(expected)


def test_it_is_narrowest_as_an_interval_at_the_planned_end() -> None:
    """Of all choices of c, the one taken makes the interval at progress 1 the narrowest, about 1.55
    times the fixed.
    """

    def width(scale: float) -> float:
        return float(multiplier(np.array([scale]))[0])

    assert minimize_scalar(width, bounds=(0.2, 5), method="bounded").x == pytest.approx(
        1.0, abs=0.05
    )
    assert width(1.0) / 1.96 == pytest.approx(1.55, abs=0.01)


def test_before_anything_is_seen_it_contains_everything() -> None:
    assert multiplier(np.zeros(1))[0] == np.inf
