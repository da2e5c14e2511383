"""Set metrics: intervals against simulation, arms of unequal size, and the cases without an
answer.
"""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks.studies.ab_data import item_counts, population
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import effects, effects_by_day
from mtmh.experiment.statistics.effects import Effect

ARMS = ("control", "treatment")
SETS = {name: metric for name, metric in METRICS.items() if not metric.is_ratio}


def drawn(
    seed: int,
    users: int = 1000,
    days: int = 2,
    share: float = 0.5,
    flatness: tuple[float, float] = (0.3, 0.3),
) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(seed)
    people = population(rng, users, days, share=share)
    return people.user_days, item_counts(rng, people.user_days, items=3000, flatness=flatness)


def compared(tables: tuple[pa.Table, pa.Table]) -> dict[str, Effect]:
    return {effect.metric: effect for effect in effects(*tables, "control", "treatment", SETS)}


@pytest.fixture(scope="module")
def without_effect() -> list[dict[str, Effect]]:
    return [compared(drawn(seed, users=600, days=1)) for seed in range(120)]


def spread_and_said(found: list[dict[str, Effect]], metric: str) -> tuple[float, float]:
    """Standard deviation of log(1 + lift) over the tests, and the root mean square of what the
    intervals say it is.
    """
    lifts = np.log1p([effects[metric].lift for effects in found])
    said = [
        np.log((1 + effects[metric].hi) / (1 + effects[metric].lo)) / 2 / 1.98 for effects in found
    ]
    return float(np.std(lifts)), float(np.sqrt(np.mean(np.square(said))))


@pytest.mark.parametrize("metric", ["topic_entropy", "gini"])
def test_a_smooth_metric_s_interval_is_as_wide_as_simulation_says(
    without_effect: list[dict[str, Effect]], metric: str
) -> None:
    spread, said = spread_and_said(without_effect, metric)
    assert said == pytest.approx(
        spread, rel=0.25
    )  # 120 tests know a standard deviation within 13 %


@pytest.mark.parametrize("metric", ["distinct_item_views", "catalog_coverage"])
def test_the_interval_of_a_count_of_distinct_items_is_never_too_narrow(
    without_effect: list[dict[str, Effect]], metric: str
) -> None:
    spread, said = spread_and_said(without_effect, metric)
    assert 0.85 * spread < said < 2.5 * spread


def test_arms_of_unequal_size_are_compared_at_the_same_size() -> None:
    """A tenth of the users view far fewer distinct items; that is no effect."""
    tables = [drawn(seed, share=0.1, users=2000, days=1) for seed in range(12)]
    views = tables[0][1].filter(pc.greater(tables[0][1]["views"], 0))
    sizes = [
        pc.count_distinct(views.filter(pc.equal(views["arm"], arm))["key"]).as_py() for arm in ARMS
    ]
    assert sizes[0] > 1.5 * sizes[1]
    tests = [compared(each) for each in tables]
    for metric in SETS:
        found = [test[metric] for test in tests]
        lifts = [effect.lift for effect in found]
        assert abs(np.mean(lifts)) < 3 * np.std(lifts) / math.sqrt(len(lifts)) + 0.003, metric
        assert sum(effect.lo <= 0 <= effect.hi for effect in found) >= 10, metric


def test_an_arm_a_little_larger_counts_what_random_draws_of_as_many_users_do() -> None:
    """Rarefaction: the mean over draws of as many users as the smaller arm has, out of all of the
    larger one's.
    """
    rng = np.random.default_rng(0)
    tables = drawn(6, users=1500, days=1, share=0.51)
    effect = compared(tables)["distinct_item_views"]
    larger, (least, most) = ARMS[effect.users[1] > effect.users[0]], sorted(effect.users)
    assert least < most < 1.05 * least
    views = tables[1].filter(
        pc.and_(pc.equal(tables[1]["over"], "item"), pc.greater(tables[1]["views"], 0))
    )
    views = views.filter(pc.equal(views["arm"], larger))
    seen = np.zeros((100, 3000), bool)
    seen[
        views["bucket"].to_numpy(),
        views["key"].combine_chunks().dictionary_encode().indices.to_numpy(),
    ] = True
    sizes = [int(100 * least / most), int(100 * least / most) + 1]
    draws = [
        [seen[rng.choice(100, size, replace=False)].any(axis=0).sum() for _ in range(500)]
        for size in sizes
    ]
    expected = np.interp(100 * least / most, sizes, np.mean(draws, axis=1))
    assert getattr(effect, larger) == pytest.approx(expected, abs=0.3 * np.std(draws, axis=1).max())


def test_a_planted_difference_is_seen_with_the_right_sign() -> None:
    found = compared(drawn(0, flatness=(0.1, 0.9)))
    assert found["distinct_item_views"].lo > 0
    assert found["catalog_coverage"].lo > 0
    assert found["topic_entropy"].lo > 0
    assert found["gini"].hi < 0


def test_the_figure_is_the_mean_over_days_of_the_daily_one() -> None:
    tables = drawn(5, days=3)
    views = tables[1].filter(
        pc.and_(pc.equal(tables[1]["over"], "item"), pc.greater(tables[1]["views"], 0))
    )
    found = compared(tables)["distinct_item_views"]
    smaller = ARMS[found.users[1] < found.users[0]]
    of_arm = views.filter(pc.equal(views["arm"], smaller))
    a_day = (
        of_arm.group_by("day")
        .aggregate([("key", "count_distinct")])["key_count_distinct"]
        .to_pylist()
    )
    # the smaller arm is taken as it is
    assert getattr(found, smaller) == pytest.approx(np.mean(a_day))


def test_each_day_says_what_effects_said_at_the_last() -> None:
    tables = drawn(6, days=3)
    by_day = effects_by_day(*tables, "control", "treatment", SETS)
    last = by_day.filter(pc.equal(by_day["day"], pc.max(by_day["day"]))).to_pylist()
    found = compared(tables)
    assert [(row["metric"], row["lift"], row["lo"]) for row in last] == [
        (effect.metric, effect.lift, effect.lo) for effect in found.values()
    ]
    assert not np.isnan(by_day["always_hi"].to_numpy()).any()


def test_without_item_counts_there_are_no_set_metrics() -> None:
    user_days, _ = drawn(0, users=50)
    assert effects(user_days, None, "control", "treatment", SETS) == []


def test_few_users_or_nothing_shown_are_an_answer() -> None:
    user_days, counts = drawn(1, users=40)
    nothing = compared((user_days, counts.slice(0, 0)))
    assert nothing["gini"].reason == "no impressions in arm 'control'"
    assert nothing["distinct_item_views"].reason.startswith("0 in arm 'control'")
    one = user_days["user_id"][0].as_py()
    alone = user_days.filter(
        pc.or_(pc.equal(user_days["arm"], "control"), pc.equal(user_days["user_id"], one))
    )
    arm = user_days["arm"][0].as_py()
    others = pc.or_(pc.not_equal(user_days["arm"], arm), pc.equal(user_days["user_id"], one))
    alone = user_days.filter(others)
    bucket = user_days["bucket"][0]
    of_one = pc.or_(pc.not_equal(counts["arm"], arm), pc.equal(counts["bucket"], bucket))
    effect = compared((alone, counts.filter(of_one)))["distinct_item_views"]
    assert effect.reason.startswith(f"one user in arm {arm!r}: no interval")
    assert math.isnan(effect.lo)
