"""The paired bootstrap: equal to a plain reference, right in its spread, paired, and honest about
coverage.
"""

import numpy as np
import pytest
from scipy.stats import t as student

from mtmh.evaluation.bootstrap import coverage_difference, mean_difference, ratio_difference


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def plain_interval(
    statistic, users: int, confidence: float, resamples: int, seed: int
) -> tuple[float, float, float]:
    """The same interval in plain Python: one resample after the other, one user after the other."""
    draws = np.random.default_rng(seed).integers(0, users, (resamples, users)).tolist()
    values = [statistic(drawn) for drawn in draws]
    mean = sum(values) / resamples
    spread = (sum((value - mean) ** 2 for value in values) / (resamples - 1)) ** 0.5
    half = student.ppf((1 + confidence) / 2, users - 1) * spread
    estimate = statistic(list(range(users)))
    return estimate, estimate - half, estimate + half


def test_mean_equals_the_plain_reference(rng: np.random.Generator) -> None:
    a, b = rng.random(23), rng.random(23)
    expected = plain_interval(
        lambda drawn: sum(a[u] - b[u] for u in drawn) / len(drawn), 23, 0.9, 150, 3
    )
    found = mean_difference(a, b, 0.9, 150, 3)
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_ratio_of_sums_equals_the_plain_reference(rng: np.random.Generator) -> None:
    retrieved = rng.integers(1, 50, (2, 23))
    matches = rng.integers(0, retrieved + 1)

    def statistic(drawn: list[int]) -> float:
        a, b = (
            sum(matches[s][u] for u in drawn) / sum(retrieved[s][u] for u in drawn) for s in (0, 1)
        )
        return a - b

    expected = plain_interval(statistic, 23, 0.9, 150, 3)
    found = ratio_difference((matches[0], retrieved[0]), (matches[1], retrieved[1]), 0.9, 150, 3)
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_coverage_counts_for_each_user_what_nobody_else_was_shown() -> None:
    challenger = np.array(
        [[0, 1, -1], [1, 2, 3], [4, 1, -1]], np.int32
    )  # covers 5; alone: {0}, {2, 3}, {4}
    champion = np.array(
        [[0, 1, -1], [0, 1, -1], [0, 2, -1]], np.int32
    )  # covers 3; alone: nothing, nothing, {2}
    influence = [1 / 10, 2 / 10, 0 / 10]
    expected = plain_interval(
        lambda drawn: 2 / 10 + sum(influence[u] for u in drawn) - sum(influence), 3, 0.6, 100, 5
    )
    found = coverage_difference(challenger, champion, 10, 0.6, 100, 5)
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_the_spread_is_that_of_the_mean(rng: np.random.Generator) -> None:
    a, b = rng.random(4000), rng.random(4000)
    found = mean_difference(a, b, 0.95, 2000, 0)
    exact = 1.96 * (a - b).std() / 4000**0.5
    assert (found.high - found.low) / 2 == pytest.approx(exact, rel=0.06)


def test_pairing_removes_what_both_models_share(rng: np.random.Generator) -> None:
    user_ease = rng.random(500)
    better = user_ease + 0.01 + rng.normal(0, 0.01, 500)
    assert mean_difference(better, user_ease, 0.95, 500, 0).is_gain
    assert not mean_difference(better, rng.permutation(user_ease), 0.95, 500, 0).is_gain


def test_the_seed_decides_and_many_users_go_through_in_pieces(rng: np.random.Generator) -> None:
    a, b = rng.random(50_000), rng.random(50_000)  # 50,000 x 200 cells: more than are held at once
    first, again, other = (mean_difference(a, b, 0.95, 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.high - first.low == pytest.approx(other.high - other.low, rel=0.3)


def test_coverage_made_of_items_shown_once_is_not_mistaken_for_a_loss() -> None:
    """Resampling users as they are would halve the challenger's once-shown items and call that a
    loss.
    """
    once = np.arange(400, dtype=np.int32).reshape(200, 2)  # covers 400, every item shown once
    twice = np.tile(np.arange(398, dtype=np.int32), 2)[: 199 * 4].reshape(
        199, 4
    )  # covers 398, every item twice
    challenger = np.full((200, 4), -1, np.int32)
    challenger[:, :2] = once
    champion = np.full((200, 4), -1, np.int32)
    champion[:199] = twice
    found = coverage_difference(challenger, champion, 1000, 0.95, 500, 0)
    assert found.estimate == pytest.approx(0.002)
    assert not found.is_loss


def test_one_user_proves_nothing() -> None:
    found = mean_difference(np.array([1.0]), np.array([0.0]), 0.95, 100, 0)
    assert (found.estimate, found.low, found.high) == (1.0, -1.0, 1.0)


def test_identical_models_differ_by_nothing(rng: np.random.Generator) -> None:
    recall = rng.random(40)
    found = mean_difference(recall, recall, 0.95, 100, 0)
    assert (found.low, found.high) == (0.0, 0.0)
    assert not found.is_gain
    assert not found.is_loss


def test_different_users_on_the_two_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="same users"):
        mean_difference(np.zeros(3), np.zeros(4), 0.95, 100, 0)
    nothing = np.zeros(3, np.int32)
    with pytest.raises(ValueError, match="at least one retrieved"):
        ratio_difference((nothing, nothing), (nothing, nothing), 0.95, 100, 0)
