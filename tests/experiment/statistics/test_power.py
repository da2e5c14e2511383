"""Power before a start, against simulated experiments; and the pre-period of CUPED."""

import math
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

from benchmarks.studies.ab_data import population
from mtmh.errors import UserError
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import effects, power, pre_period

ASKED = {name: METRICS[name] for name in ("time_spent", "fresh_share")}


@pytest.fixture(scope="module")
def earlier() -> tuple[pa.Table, pa.Table]:
    """A long earlier log, so that what is known of the users is not what is tested."""
    people = population(np.random.default_rng(1), users=30_000, days=3)
    return people.user_days, people.before


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_effect_said_to_be_detectable_is_found_as_often_as_said(
    earlier: tuple[pa.Table, pa.Table], share: float
) -> None:
    user_days, before = earlier
    for found in power(user_days, users=1500, share=share, metrics=ASKED, before=before):
        metric = {found.metric: METRICS[found.metric]}
        tests = []
        for seed in range(200):
            people = population(
                np.random.default_rng(seed), 2300, 3, lift=found.detectable, share=share
            )
            effect = effects(people.user_days, None, "control", "treatment", metric, people.before)[
                0
            ]
            tests.append((effect.lo > 0, sum(effect.users), math.log1p(effect.lift)))
        hits, users, lift = np.mean(tests, axis=0)
        # What is cut off a winsorized metric does not rise with the rest: its lift is a little less
        # than was planted.
        counted = lift / math.log1p(found.detectable) if METRICS[found.metric].winsorized else 1.0
        assert counted > 0.88
        # Power at the number of users that came, which is not exactly 1,500; 200 tests know a share
        # within 0.07.
        z = (norm.ppf(0.975) + norm.ppf(0.8)) * counted * math.sqrt(users / 1500) - norm.ppf(0.975)
        assert hits == pytest.approx(norm.cdf(z), abs=0.12), found.metric


def test_users_needed_and_detectable_effect_are_the_same_answer(
    earlier: tuple[pa.Table, pa.Table],
) -> None:
    for found in power(earlier[0], users=8000, lift=0.03):
        again = power(
            earlier[0], lift=found.detectable, metrics={found.metric: METRICS[found.metric]}
        )[0]
        assert again.users_needed == pytest.approx(8000, rel=0.01)
        assert found.detectable_always / found.detectable == pytest.approx(1.384, abs=0.001)


def test_cuped_and_equal_arms_take_fewer_users(earlier: tuple[pa.Table, pa.Table]) -> None:
    user_days, before = earlier
    metric = {"time_spent": METRICS["time_spent"]}
    plain, adjusted, uneven = (
        power(user_days, lift=0.05, metrics=metric, before=past, share=share)[0]
        for past, share in ((None, 0.5), (before, 0.5), (before, 0.1))
    )
    assert adjusted.cuped
    assert adjusted.users_needed < 0.8 * plain.users_needed
    assert uneven.users_needed == pytest.approx(adjusted.users_needed / (4 * 0.1 * 0.9), rel=0.05)


def test_what_cannot_be_is_said(earlier: tuple[pa.Table, pa.Table]) -> None:
    user_days, _ = earlier
    zeros = pa.repeat(0, user_days.num_rows).cast(pa.int64())
    empty = user_days.drop_columns(["impressions", "active"])
    empty = empty.append_column("impressions", zeros).append_column("active", zeros)
    found = {each.metric: each for each in power(empty)}
    assert found["fresh_share"].reason == "impressions is 0 in the log: no ratio"
    assert found["daily_active_users"].reason == "0 in the log: there is no relative effect"
    assert math.isnan(found["fresh_share"].detectable)
    with pytest.raises(UserError, match="at least four users"):
        power(user_days.slice(0, 1))
    with pytest.raises(UserError, match="share 1"):
        power(user_days, share=1)
    with pytest.raises(UserError, match="lift 0"):
        power(user_days, lift=0)


def test_the_pre_period_is_what_users_did_in_the_days_before(tmp_path: Path) -> None:
    rows = [
        ("a", "2025-03-01T23:59:59", 1.0, 10.0),
        ("a", "2025-03-01T08:00:00", 1.0, None),
        ("a", "2025-02-20T08:00:00", 0.0, 5.0),  # seen, not liked
        ("a", "2025-03-02T00:00:00", 1.0, 7.0),  # the experiment has begun
        ("b", "2025-02-01T00:00:00", 1.0, 7.0),  # too long ago
        ("c", "2025-02-20T00:00:00", 0.0, None),
    ]
    table = pa.table(
        {
            "user_id": [row[0] for row in rows],
            "timestamp": pa.array(
                [datetime.fromisoformat(r[1]).replace(tzinfo=UTC) for r in rows], UTC_MICROS
            ),
            "value": [row[2] for row in rows],
            "dwell_seconds": pa.array([row[3] for row in rows], pa.float64()),
        }
    )
    pq.write_table(table, tmp_path / "history.parquet")
    found = pre_period(tmp_path / "history.parquet", date(2025, 3, 2))
    assert found.to_pylist() == [
        {"user_id": "a", "active": 1, "seconds": 15.0},
        {"user_id": "c", "active": 0, "seconds": 0.0},
    ]
    assert pre_period(table, date(2025, 3, 2)).equals(found)
    pq.write_table(table.select(["user_id", "timestamp"]), tmp_path / "history.parquet")
    found = pre_period(tmp_path / "history.parquet", date(2025, 3, 2))
    assert found.to_pylist() == [{"user_id": "a", "active": 2}, {"user_id": "c", "active": 1}]


UTC_MICROS = pa.timestamp("us", "UTC")
