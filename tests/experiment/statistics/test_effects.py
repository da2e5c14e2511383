"""Effects of ratio metrics: against tea-tasting's own analysis of per-user tables, and in the cases
that come up.
"""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tea_tasting as tt

from benchmarks.studies.ab_data import SampledUsers, population
from mtmh.errors import UserError
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import effects, effects_by_day
from mtmh.experiment.statistics.effects import Effect, holm

DAYS = 6


@pytest.fixture(scope="module")
def people() -> SampledUsers:
    return population(np.random.default_rng(3), users=600, days=DAYS, lift=0.1)


def of(found: list[Effect], metric: str) -> Effect:
    return next(effect for effect in found if effect.metric == metric)


def compared(user_days: pa.Table, before: pa.Table | None = None) -> list[Effect]:
    return effects(user_days, None, "control", "treatment", before=before)


def per_user(people: SampledUsers) -> pa.Table:
    """Sums of each user, and the user's pre-period, as tea-tasting takes them."""
    sums = people.user_days.group_by(["arm", "user_id"]).aggregate(
        [
            (name, "sum")
            for name in (
                "seconds",
                "active",
                "novel_interests",
                "engaged_impressions",
                "impressions",
            )
        ]
    )
    past = people.before.rename_columns(["user_id", "active_before", "seconds_before"])
    joined = sums.join(past, "user_id", join_type="left outer")
    for name in ("seconds_sum", "seconds_before"):
        joined = joined.set_column(
            joined.column_names.index(name), name, winsorized(joined[name].to_numpy())
        )
    return joined


def winsorized(totals: np.ndarray) -> pa.Array:
    """The users' totals, at most the 99.9th percentile of those that are above 0."""
    present = np.sort(totals[totals > 0])
    return pa.array(
        np.minimum(totals, present[int(DEFINITIONS.winsorized_share * (len(present) - 1))])
    )


@pytest.mark.parametrize(
    ("metric", "numerator", "denominator"),
    [
        ("time_spent", "seconds_sum", None),
        ("engagement_rate", "engaged_impressions_sum", "impressions_sum"),
        ("novel_interests", "novel_interests_sum", "active_sum"),
    ],
)
def test_a_ratio_is_what_tea_tasting_says_of_the_users_sums(
    people: SampledUsers, metric: str, numerator: str, denominator: str | None
) -> None:
    found = of(compared(people.user_days), metric)
    asked = tt.RatioOfMeans(numerator, denominator) if denominator else tt.Mean(numerator)
    said = asked.analyze(per_user(people), control="control", treatment="treatment", variant="arm")
    assert (found.lift, found.lo, found.hi) == pytest.approx(
        (said.rel_effect_size, said.rel_effect_size_ci_lower, said.rel_effect_size_ci_upper),
        rel=1e-9,
    )
    days = 1 if denominator else DAYS
    assert (found.control * days, found.treatment * days) == pytest.approx(
        (said.control, said.treatment)
    )
    assert not found.cuped


@pytest.mark.parametrize(
    ("metric", "column"), [("time_spent", "seconds"), ("daily_active_users", "active")]
)
def test_cuped_is_what_tea_tasting_says_and_narrows_the_interval(
    people: SampledUsers, metric: str, column: str
) -> None:
    found, plain = (
        of(compared(people.user_days, before), metric) for before in (people.before, None)
    )
    asked = tt.Mean(f"{column}_sum", f"{column}_before")
    said = asked.analyze(per_user(people), control="control", treatment="treatment", variant="arm")
    assert (found.lift, found.lo, found.hi) == pytest.approx(
        (said.rel_effect_size, said.rel_effect_size_ci_lower, said.rel_effect_size_ci_upper),
        rel=1e-9,
    )
    assert found.cuped
    assert found.hi - found.lo < 0.9 * (plain.hi - plain.lo)


def test_only_metrics_with_a_past_of_their_own_are_adjusted(people: SampledUsers) -> None:
    adjusted = {
        effect.metric for effect in compared(people.user_days, people.before) if effect.cuped
    }
    assert adjusted == {"daily_active_users", "time_spent"}


def test_who_has_no_past_counts_zero(people: SampledUsers) -> None:
    some = people.before.slice(0, 300)
    missing = people.before.slice(300)
    zeros = missing.set_column(1, "active", pa.repeat(0, 300)).set_column(
        2, "seconds", pa.repeat(0.0, 300)
    )
    filled = pa.concat_tables([some, zeros], promote_options="permissive")
    for a, b in zip(
        compared(people.user_days, some), compared(people.user_days, filled), strict=True
    ):
        assert (a.lift, a.lo, a.hi) == pytest.approx((b.lift, b.lo, b.hi))


def test_users_are_the_units_not_their_days(people: SampledUsers) -> None:
    """Every user's days rolled into one row of the same day say the same about ratios; their order
    says nothing.
    """
    columns = [
        name
        for name in people.user_days.column_names
        if name not in ("arm", "day", "user_id", "bucket")
    ]
    rolled = people.user_days.group_by(["arm", "user_id", "bucket"]).aggregate(
        [(name, "sum") for name in columns]
    )
    rolled = rolled.rename_columns([name.removesuffix("_sum") for name in rolled.column_names])
    rolled = rolled.append_column("day", pa.repeat(people.user_days["day"][0], rolled.num_rows))
    shuffled = people.user_days.take(
        np.random.default_rng(0).permutation(people.user_days.num_rows)
    )
    found, one_day, mixed = (compared(table) for table in (people.user_days, rolled, shuffled))
    for a, b, c in zip(found, one_day, mixed, strict=True):
        assert (a.lift, a.lo, a.hi, a.p) == pytest.approx((b.lift, b.lo, b.hi, b.p))
        assert (a.lift, a.lo, a.hi, a.always_lo) == pytest.approx((c.lift, c.lo, c.hi, c.always_lo))


def test_the_interval_leaves_out_zero_exactly_when_p_says_so(people: SampledUsers) -> None:
    for effect in compared(people.user_days):
        assert (effect.p < 0.05) == (effect.lo > 0 or effect.hi < 0)
        assert effect.always_lo < effect.lo < effect.lift < effect.hi < effect.always_hi
        assert effect.p <= effect.adjusted_p <= 1


def test_each_day_says_what_effects_said_of_the_days_up_to_it(people: SampledUsers) -> None:
    by_day = effects_by_day(people.user_days, None, "control", "treatment", before=people.before)
    for day in pc.unique(by_day["day"]).to_pylist():
        so_far = people.user_days.filter(pc.less_equal(people.user_days["day"], day))
        rows = by_day.filter(pc.equal(by_day["day"], day)).to_pylist()
        for row, effect in zip(rows, compared(so_far, people.before), strict=True):
            expected = [getattr(effect, name) for name in row if name != "day"]
            assert [value for name, value in row.items() if name != "day"] == [
                value if isinstance(value, str) else pytest.approx(value) for value in expected
            ]
    assert by_day.num_rows == DAYS * sum(metric.is_ratio for metric in METRICS.values())


def test_an_arm_without_users_or_with_one_gives_an_answer(people: SampledUsers) -> None:
    control = people.user_days.filter(pc.equal(people.user_days["arm"], "control"))
    effect = of(compared(control), "time_spent")
    assert (effect.reason, effect.users[1]) == ("no users in arm 'treatment'", 0)
    assert math.isnan(effect.lift)
    assert math.isnan(effect.adjusted_p)

    treated = people.user_days.filter(pc.equal(people.user_days["arm"], "treatment"))
    someone = treated.filter(pc.equal(treated["user_id"], treated["user_id"][0]))
    effect = of(compared(pa.concat_tables([control, someone])), "relevance_share")
    assert effect.reason.startswith("one user in arm 'treatment': no interval")
    assert not math.isnan(effect.lift)
    assert math.isnan(effect.lo)
    assert effects_by_day(control, None, "control", "treatment").num_rows == 0


def test_two_users_an_arm_have_an_interval_and_a_wide_one(people: SampledUsers) -> None:
    days = people.user_days
    few = [
        days.filter(pc.equal(days["arm"], arm))["user_id"].unique().slice(0, 2)
        for arm in ("control", "treatment")
    ]
    found = compared(days.filter(pc.is_in(days["user_id"], pa.concat_arrays(few))))
    effect = of(found, "relevance_share")
    assert effect.users == (2, 2)
    assert effect.hi - effect.lo > 0.1


@pytest.mark.parametrize(
    ("column", "metric", "reason"),
    [
        ("impressions", "fresh_share", "impressions is 0 in arm 'control': no ratio"),
        (
            "fresh_impressions",
            "fresh_share",
            "0 in arm 'control': a relative interval needs figures above 0",
        ),
        ("active", "novel_interests", "active is 0 in arm 'control': no ratio"),
    ],
)
def test_nothing_to_divide_by_is_said(
    people: SampledUsers, column: str, metric: str, reason: str
) -> None:
    zeros = pa.repeat(0, people.user_days.num_rows).cast(pa.int64())
    table = people.user_days.set_column(people.user_days.column_names.index(column), column, zeros)
    effect = of(compared(table), metric)
    assert effect.reason == reason
    assert math.isnan(effect.lo)
    assert math.isnan(effect.p)


def test_a_metric_that_is_the_same_for_everyone_has_no_interval(people: SampledUsers) -> None:
    table = people.user_days.set_column(
        people.user_days.column_names.index("relevance_impressions"),
        "relevance_impressions",
        people.user_days["impressions"],
    )
    effect = of(compared(table), "relevance_share")
    assert (effect.control, effect.treatment, effect.lift) == (1, 1, 0)
    assert math.isnan(effect.lo)
    assert effect.reason.startswith("the same for every user")


def test_days_on_which_one_arm_is_gone_are_left_out_and_named(people: SampledUsers) -> None:
    day = people.user_days["day"]
    last = pc.max(day)
    gone = pc.and_(pc.equal(day, last), pc.equal(people.user_days["arm"], "treatment"))
    found = compared(people.user_days.filter(pc.invert(gone)))
    without = compared(people.user_days.filter(pc.less(day, last)))
    for effect, other in zip(found, without, strict=True):
        assert (effect.lift, effect.lo) == (other.lift, other.lo)
        assert (
            effect.reason
            == f"1 day(s) from {last.as_py()} on left out: only 'control' has users, 'treatment' "
            f"none"
        )


def test_arms_that_never_met_are_not_compared(people: SampledUsers) -> None:
    day, arm = people.user_days["day"], people.user_days["arm"]
    first = pc.equal(day, pc.min(day))
    apart = pc.or_(
        pc.and_(first, pc.equal(arm, "control")),
        pc.and_(pc.invert(first), pc.equal(arm, "treatment")),
    )
    effect = compared(people.user_days.filter(apart))[0]
    assert effect.reason.startswith("no day on which both arms have users")


def test_wrong_tables_are_named(people: SampledUsers) -> None:
    with pytest.raises(UserError, match="user_days lacks the columns seconds"):
        compared(people.user_days.drop_columns("seconds"))
    with pytest.raises(UserError, match="before lacks the columns user_id"):
        compared(people.user_days, people.before.drop_columns("user_id"))
    with pytest.raises(UserError, match="both 'control'"):
        effects(people.user_days, None, "control", "control")


def test_holm_is_right_on_a_worked_example() -> None:
    # Holm's steps by hand: 0.005 * 4, 0.01 * 3, max(0.03, 0.03 * 2), max(0.06, 0.04 * 1)
    assert holm([0.01, 0.04, math.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True
    )
    assert holm([]) == []
