"""What one user, or one record, can do to a comparison: little, whatever it says."""

import math
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.studies.ab_data import ARMS, FIRST_DAY, SampledUsers, population
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import effects, never_served, sample_ratio
from mtmh.experiment.statistics.effects import Effect
from mtmh.experiment.units import USER_DAYS
from mtmh.experiment.verdict import GUARDRAILS, PRIMARY, LogHealth, Verdict, judge

DAYS, USERS = 14, 1500
DECIDING = {name: METRICS[name] for name in (PRIMARY, *GUARDRAILS)}
LIFTS = {
    "harms": -0.5,
    "open": 0.0,
    "wins": 0.5,
}  # of the treatment; below 0: of the control, the other way round
# So much of treatment / control may one record change here: about what the largest user holds of an
# arm.
MOST = 0.05
DAY_LONG = DEFINITIONS.longest_dwell_seconds


@pytest.fixture(scope="module")
def experiments() -> dict[float, SampledUsers]:
    found = {}
    for lift in LIFTS.values():
        people = population(np.random.default_rng(5), USERS, DAYS, lift=abs(lift))
        swapped = people.user_days.append_column(
            "other", pc.if_else(pc.equal(people.user_days["arm"], ARMS[0]), *ARMS[::-1])
        )
        swapped = swapped.drop("arm").rename_columns({"other": "arm"}).select(USER_DAYS.names)
        found[lift] = SampledUsers(swapped if lift < 0 else people.user_days, people.before)
    return found


def compared(
    people: SampledUsers, records: Sequence[tuple[str, str, int, float]] = ()
) -> dict[str, Effect]:
    """Effects with further records: user, arm, day and dwell; a user's day has at most its own
    seconds.
    """
    rows = people.user_days
    if records:
        rows = pa.concat_tables([rows, *(_record(*record) for record in records)])
        keys = ["arm", "day", "user_id", "bucket"]
        sums = [name for name in rows.column_names if name not in keys]
        rows = rows.group_by(keys).aggregate([(name, "sum") for name in sums])
        rows = rows.rename_columns([name.removesuffix("_sum") for name in rows.column_names])
        capped = pc.min_element_wise(rows["seconds"], DAY_LONG)
        active = pc.min_element_wise(rows["active"], 1)
        rows = rows.set_column(rows.column_names.index("seconds"), "seconds", capped)
        rows = rows.set_column(rows.column_names.index("active"), "active", active)
    found = effects(rows, None, *ARMS, DECIDING, people.before, planned_days=DAYS)
    return {effect.metric: effect for effect in found}


def _record(user: str, arm: str, day: int, dwell: float) -> pa.Table:
    zeros = {name: 0 for name in USER_DAYS.names}
    date = FIRST_DAY.astype(object) + timedelta(days=day)
    row = {
        **zeros,
        "arm": arm,
        "day": date,
        "user_id": user,
        "bucket": 0,
        "seconds": dwell,
        "engagements": 1,
        "active": 1,
    }
    return pa.Table.from_pylist([row], schema=USER_DAYS)


def verdict(found: dict[str, Effect]) -> Verdict:
    log = LogHealth(DAYS, {arm: USERS // 2 for arm in ARMS}, 0, {}, {})
    ratio, unserved = sample_ratio(log.users, dict.fromkeys(ARMS, 0.5)), never_served(log.users, {})
    return judge(list(found.values()), ratio, unserved, log, *ARMS)


@pytest.mark.parametrize("outcome", LIFTS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dwell=st.floats(0, DAY_LONG),
    user=st.integers(0, USERS + 5),
    day=st.integers(0, DAYS - 1),
    arm=st.sampled_from(ARMS),
)
def test_no_record_changes_a_verdict_to_its_opposite_nor_the_lift_by_much(
    experiments: dict[float, SampledUsers],
    outcome: str,
    dwell: float,
    user: int,
    day: int,
    arm: str,
) -> None:
    people = experiments[LIFTS[outcome]]
    own = people.user_days.filter(pc.equal(people.user_days["user_id"], f"user-{user}"))
    arm = own["arm"][0].as_py() if own.num_rows else arm
    before, after = compared(people), compared(people, [(f"user-{user}", arm, day, dwell)])
    assert verdict(before).outcome == outcome
    assert {outcome, verdict(after).outcome} != {"wins", "harms"}
    assert outcome != "open" or verdict(after).outcome == "open"
    assert after[PRIMARY].lift + 1 == pytest.approx(before[PRIMARY].lift + 1, rel=MOST)


@pytest.mark.parametrize("days", [30, 60, 1e9 / DAY_LONG])
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("lift", LIFTS.values())
def test_a_whale_is_winsorized_and_decides_nothing(
    experiments: dict[float, SampledUsers], lift: float, arm: str, days: float
) -> None:
    """More than can be logged: what statistics get without any bound before them."""
    people = experiments[lift]
    row = _record("whale", arm, 1, days * DAY_LONG)
    rows = pa.concat_tables([people.user_days, row])
    found = effects(rows, None, *ARMS, DECIDING, people.before, planned_days=DAYS)
    of = {effect.metric: effect for effect in found}
    assert verdict(of).outcome == verdict(compared(people)).outcome
    assert of[PRIMARY].lift + 1 == pytest.approx(compared(people)[PRIMARY].lift + 1, rel=MOST)
    winsorized = of[PRIMARY].winsorized
    assert winsorized is not None
    assert winsorized.users >= 1
    assert abs(winsorized.plain_lift - of[PRIMARY].lift) > 0.4  # what it would have been
    assert min(of[PRIMARY].control, of[PRIMARY].treatment) > 0


def test_a_whale_of_the_past_makes_no_arm_negative(experiments: dict[float, SampledUsers]) -> None:
    people = experiments[0.0]
    past = people.before.to_pydict()
    past["seconds"] = [1e12 if n == 7 else value for n, value in enumerate(past["seconds"])]
    whale = SampledUsers(people.user_days, pa.table(past))
    plain, found = compared(people)[PRIMARY], compared(whale)[PRIMARY]
    assert found.lift == pytest.approx(plain.lift, abs=MOST)
    assert np.isfinite([found.lo, found.hi, found.always_lo, found.always_hi]).all()


def test_a_past_that_would_make_an_arm_negative_is_left_out_and_told() -> None:
    """Ten users of the treatment make the slope so steep that the control would have less than
    nothing.
    """
    past, seconds = np.repeat([5.0, 0.0], 200), np.ones(400)
    past[-10:], seconds[-10:] = 10.0, 1000.0
    rows = [_record(f"user-{n}", ARMS[n >= 200], 0, float(seconds[n])) for n in range(400)]
    before = pa.table({"user_id": [f"user-{n}" for n in range(400)], "seconds": past})
    (found,) = effects(
        pa.concat_tables(rows), None, *ARMS, {PRIMARY: METRICS[PRIMARY]}, before, planned_days=1
    )
    (plain,) = effects(
        pa.concat_tables(rows), None, *ARMS, {PRIMARY: METRICS[PRIMARY]}, None, planned_days=1
    )
    assert not found.cuped
    assert "own past (CUPED)" in found.reason
    assert (found.control, found.treatment, found.lo) == (plain.control, plain.treatment, plain.lo)
    assert found.control > 0


@pytest.mark.parametrize("column", ["seconds", "impressions"])
def test_an_arm_that_is_few_users_cannot_be_judged(
    experiments: dict[float, SampledUsers], column: str
) -> None:
    """Bots, more than winsorizing takes: a user whose share of an arm is too large is named by its
    id and share.
    """
    people = experiments[0.5]
    bots = [
        _record(f"bot-{n}", ARMS[1], 1, 0.0).to_pylist()[0] | {column: 3_000_000} for n in range(8)
    ]
    rows = pa.concat_tables([people.user_days, pa.Table.from_pylist(bots, schema=USER_DAYS)])
    found = effects(rows, None, *ARMS, DECIDING, people.before, planned_days=DAYS)
    judged = verdict({effect.metric: effect for effect in found})
    assert judged.outcome == "unjudged"
    assert "one user (bot-" in " ".join(judged.reasons)
    assert "of the arm treatment; the bound is 10%" in " ".join(judged.reasons)


def test_a_metric_that_few_have_is_not_cut_to_nothing() -> None:
    rows = [_record(f"user-{n}", ARMS[n % 2], 0, 10.0 if n < 40 else 0.0) for n in range(60_0)]
    (found,) = effects(
        pa.concat_tables(rows), None, *ARMS, {PRIMARY: METRICS[PRIMARY]}, planned_days=1
    )
    assert found.control == pytest.approx(10 * 20 / 300)
    assert not math.isnan(found.lo)
