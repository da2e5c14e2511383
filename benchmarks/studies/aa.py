"""Are the intervals as sure as they say? 2,000 A/A tests of invented users, and as many with a
planted effect.

Each test draws new users (ab_data.py) and asks the code that the report asks, CUPED included:

- A/A, ratio metrics: a look a day for 28 days. False alarms of the fixed interval looked at once,
  at the end (nominal 5 %, wanted 4 to 6 %), of the fixed interval looked at every day, and of the
  always-valid one (wanted: at most 5 %).
- A/B, ratio metrics: how often the interval holds the lift that was planted, 5 % (nominal 95 %).
- time spent again, of users with heavy-tailed dwell times of whom 1 % stay as long as a record may
  say: A/A, and an A/B whose truth is the mean over all tests, as winsorizing takes from a lift what
  it takes from the largest.
- A/A and A/B, set metrics: the same over two days, and in a tenth of the tests 28 daily looks,
  because a look takes them longest. The lift of a set metric cannot be planted; what is true is the
  mean over all tests.
- the sample ratio, 20 draws a test: how often it alarms (nominal 0.1 %).
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from benchmarks.result import write
from benchmarks.studies.ab_data import ARMS, item_counts, population
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import effects, effects_by_day, sample_ratio

USERS, DAYS, LIFT = 2000, 28, 0.05
SET_USERS, SET_DAYS, ITEMS, FLATNESS = 600, 2, 1000, (0.3, 0.35)
LOOKED_AT_USERS, LOOKED_AT_ITEMS, LOOKED_AT_SHARE = 400, 600, 10  # a tenth of the tests
DRAWS = 20
OUTLIERS = 0.01  # share of the users
RATIOS = {name: metric for name, metric in METRICS.items() if metric.is_ratio}
SETS = {name: metric for name, metric in METRICS.items() if not metric.is_ratio}
TIME = {"time_spent": METRICS["time_spent"]}
# Tests that a worker takes at a time.
AT_ONCE = 50
Figures = np.ndarray  # [tests, metrics, columns]

NOMINAL = {
    "once": 0.05,
    "always": "at most 0.05",
    "coverage": 0.95,
    "sample_ratio_alarms": 0.001,
}


def main(tests: Annotated[int, typer.Option(min=10, help="Of each kind.")] = 2000) -> None:
    """False alarms of A/A tests and coverage of planted effects, for each metric."""
    started = time.perf_counter()
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(
        cores, get_context("spawn"), initializer=pa.set_cpu_count, initargs=(1,)
    ) as workers:
        looked = _all(workers, watched, tests)  # [tests, metrics, (once, daily, always)]
        planted = _all(workers, covered, tests)  # [tests, metrics, (held)]
        # [tests, metrics, (lift, lo, hi)]
        none, some = _all(workers, sets_without, tests), _all(workers, sets_with, tests)
        sets_looked = _all(workers, sets_watched, tests // LOOKED_AT_SHARE)  # as `looked`
        ratio = _all(workers, ratio_alarm, tests)
        wild = _all(workers, outliers_watched, tests)
        wild_lifts = _all(workers, outliers_covered, tests)

    # Alarms where there is nothing, and how often the interval holds what there is.
    metrics: dict[str, dict[str, float]] = {}
    for i, name in enumerate(RATIOS):
        once, daily, always = (float(looked[:, i, column].mean()) for column in range(3))
        coverage = float(planted[:, i, 0].mean())
        metrics[name] = {"once": once, "daily": daily, "always": always, "coverage": coverage}
    for i, name in enumerate(SETS):
        daily, always = (float(sets_looked[:, i, column].mean()) for column in (1, 2))
        once, coverage = 1 - _held(none[:, i], 0.0), _held(some[:, i], _mean_lift(some[:, i]))
        metrics[name] = {"once": once, "daily": daily, "always": always, "coverage": coverage}
    once, daily, always = (float(wild[:, 0, column].mean()) for column in range(3))
    coverage = _held(wild_lifts[:, 0], _mean_lift(wild_lifts[:, 0]))
    rates = {"once": once, "daily": daily, "always": always, "coverage": coverage}
    metrics["time_spent, 1 % outliers"] = rates
    for name, rates in metrics.items():
        line = "  ".join(f"{column} {100 * value:6.2f} %" for column, value in rates.items())
        print(f"  {name:27}{line}")
    print(
        "  nominal                    once   5.00 %  daily      -"
        "    always <= 5.00 %  coverage  95.00 %"
    )
    print(f"  sample ratio: alarms {100 * ratio.mean():.2f} %, nominal 0.10 %")
    pooled = {key: float(np.mean([metrics[name][key] for name in RATIOS])) for key in rates}
    details: dict[str, Any] = {
        "tests": tests,
        "looks": DAYS,
        "planted_lift": LIFT,
        "metrics": {
            name: {key: round(value, 4) for key, value in rates.items()}
            for name, rates in metrics.items()
        },
        "always_worst": max(rates["always"] for rates in metrics.values()),
        "daily_looks_at_the_fixed_interval": round(pooled["daily"], 4),
        "sample_ratio_alarms": float(ratio.mean()),
        "lift_counted_of_the_planted_with_outliers": round(_mean_lift(wild_lifts[:, 0]), 4),
        "seconds": round(time.perf_counter() - started, 1),
        "nominal": NOMINAL,
    }
    write("aa", pooled["once"], "false alarms, looking once", 0.05, details)


def watched(seed: int) -> np.ndarray:
    """An A/A test looked at every day: bool [metrics, 3], whether 0 was ever left out."""
    people = population(np.random.default_rng([1, seed]), USERS, DAYS)
    results = effects_by_day(
        people.user_days, None, *ARMS, RATIOS, people.before, planned_days=DAYS
    )
    return _left_out(results, len(RATIOS))


def sets_watched(seed: int) -> np.ndarray:
    """The same of set metrics, with fewer users and items."""
    rng = np.random.default_rng([9, seed])
    people = population(rng, LOOKED_AT_USERS, DAYS)
    counts = item_counts(rng, people.user_days, LOOKED_AT_ITEMS, (FLATNESS[0], FLATNESS[0]))
    return _left_out(
        effects_by_day(people.user_days, counts, *ARMS, SETS, planned_days=DAYS), len(SETS)
    )


def _left_out(results: pa.Table, metrics: int) -> np.ndarray:
    """Whether 0 was left out at the last look, at any look, and by the always-valid interval: bool
    [metrics, 3]."""
    lo, hi, always_lo, always_hi = (
        results[name].to_numpy().reshape(DAYS, metrics)
        for name in ("lo", "hi", "always_lo", "always_hi")
    )
    alarms, always = (lo > 0) | (hi < 0), (always_lo > 0) | (always_hi < 0)
    return np.stack([alarms[-1], alarms.any(axis=0), always.any(axis=0)], axis=1)


def covered(seed: int) -> np.ndarray:
    """A test with a planted effect: bool [metrics, 1], whether the interval holds it. No interval
    holds nothing."""
    people = population(np.random.default_rng([2, seed]), USERS, 7, lift=LIFT)
    results = effects(people.user_days, None, *ARMS, RATIOS, people.before, planned_days=7)
    return np.array([[effect.lo <= LIFT <= effect.hi] for effect in results])


def outliers_watched(seed: int) -> np.ndarray:
    """As `watched`, of time spent with outliers: bool [1, 3]."""
    people = population(np.random.default_rng([6, seed]), USERS, DAYS, outliers=OUTLIERS)
    return _left_out(
        effects_by_day(people.user_days, None, *ARMS, TIME, people.before, planned_days=DAYS), 1
    )


def outliers_covered(seed: int) -> np.ndarray:
    """Time spent with outliers and a planted effect: float64 [1, (lift, lo, hi)]."""
    people = population(np.random.default_rng([7, seed]), USERS, DAYS, lift=LIFT, outliers=OUTLIERS)
    (effect,) = effects(people.user_days, None, *ARMS, TIME, people.before, planned_days=DAYS)
    return np.array([[effect.lift, effect.lo, effect.hi]])


def sets_without(seed: int) -> np.ndarray:
    """Set metrics of an A/A test: float64 [metrics, (lift, lo, hi)]."""
    return _sets(np.random.default_rng([3, seed]), (FLATNESS[0], FLATNESS[0]))


def sets_with(seed: int) -> np.ndarray:
    """The same where the treatment's impressions are spread over more items."""
    return _sets(np.random.default_rng([4, seed]), FLATNESS)


def ratio_alarm(seed: int) -> np.ndarray:
    """Whether the sample ratio of a sound test alarms: bool [draws]."""
    treated = np.random.default_rng([5, seed]).binomial(10 * USERS, 0.5, DRAWS).tolist()
    shares = dict.fromkeys(ARMS, 0.5)
    users = [{ARMS[0]: 10 * USERS - count, ARMS[1]: count} for count in treated]
    return np.array([sample_ratio(arms, shares).alarm for arms in users])


def _sets(rng: np.random.Generator, flatness: tuple[float, float]) -> np.ndarray:
    people = population(rng, SET_USERS, SET_DAYS)
    counts = item_counts(rng, people.user_days, ITEMS, flatness)
    results = effects(people.user_days, counts, *ARMS, SETS, planned_days=SET_DAYS)
    return np.array([[effect.lift, effect.lo, effect.hi] for effect in results])


def _held(figures: np.ndarray, truth: float) -> float:
    """Share of the intervals, [tests, (lift, lo, hi)], that hold the truth."""
    return float(((figures[:, 1] <= truth) & (truth <= figures[:, 2])).mean())


def _mean_lift(figures: np.ndarray) -> float:
    return float(np.expm1(np.log1p(figures[:, 0]).mean()))


def _all(workers: Executor, test: Callable[[int], np.ndarray], tests: int) -> np.ndarray:
    """The test at every seed, stacked: [tests, ..]."""
    started = time.perf_counter()
    results = np.array(list(workers.map(test, range(tests), chunksize=AT_ONCE)))
    print(f"{test.__name__}: {tests:,} tests in {time.perf_counter() - started:.0f} s", flush=True)
    return results
