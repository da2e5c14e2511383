"""The verdict: its four outcomes, what comes before what, and that nothing else can change it."""

from dataclasses import replace
from math import nan

import pytest

from mtmh.experiment.arm_effects import DEVIATIONS, Deviation
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import Effect, NeverServed, SampleRatio
from mtmh.experiment.verdict import (
    GUARDRAILS,
    LEAST_DAYS,
    LEAST_USERS,
    MOST_CONTAMINATED,
    PRIMARY,
    LogHealth,
    Outcome,
    judge,
    rule,
    signed,
)

FINE = SampleRatio({"old": 5000, "new": 5010}, {"old": 5005.0, "new": 5005.0}, 0.92, False)
NONE = NeverServed({"old": 12, "new": 9}, {"old": 5012, "new": 5019}, 0.5, False)
LOG = LogHealth(
    days=14,
    users={"old": 5000, "new": 5010},
    contaminated=3,
    unusable={"Malformed records": (12, 100_000)},
    vanished={},
)


def effect(metric: str, lo: float, hi: float) -> Effect:
    """One whose always-valid interval goes from lo to hi; the fixed one is half as wide."""
    lift, half = (lo + hi) / 2, (hi - lo) / 4
    return Effect(
        metric, 1.0, 1 + lift, lift, lift - half, lift + half, 0.5, 0.5, lo, hi, False, (5000, 5010)
    )


def judged(
    log: LogHealth = LOG,
    ratio: SampleRatio = FINE,
    unserved: NeverServed = NONE,
    **bounds: tuple[float, float],
) -> tuple[Outcome, str]:
    """Outcome and all the words, where the metrics that are not named move by -1 % to +1 %."""
    wide = {name: (-0.01, 0.01) for name in METRICS} | bounds
    verdict = judge(
        [effect(name, *ends) for name, ends in wide.items()], ratio, unserved, log, "old", "new"
    )
    return verdict.outcome, " ".join([verdict.title, verdict.lead, *verdict.reasons])


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [
        ({PRIMARY: (0.01, 0.05)}, "wins"),
        ({PRIMARY: (-0.0001, 0.05)}, "open"),
        ({PRIMARY: (-0.05, -0.001)}, "harms"),
        ({PRIMARY: (0.01, 0.05), "engagement_rate": (-0.04, -0.001)}, "harms"),
        ({PRIMARY: (0.01, 0.05), "daily_active_users": (-0.04, -0.001)}, "harms"),
        ({PRIMARY: (0.01, 0.05), "engagement_rate": (-0.04, 0.001)}, "wins"),
        (
            {PRIMARY: (-0.01, 0.05), "novel_interests": (0.2, 0.3), "fresh_share": (0.2, 0.3)},
            "open",
        ),
        ({PRIMARY: (0.01, 0.05), "novel_interests": (-0.3, -0.2), "gini": (0.2, 0.3)}, "wins"),
    ],
)
def test_primary_and_guardrails_decide_and_nothing_else(
    bounds: dict[str, tuple[float, float]], outcome: str
) -> None:
    assert judged(**bounds)[0] == outcome


def test_a_harmed_guardrail_is_named_with_its_numbers() -> None:
    _, said = judged(**{PRIMARY: (0.01, 0.05), "engagement_rate": (-0.04, -0.02)})
    assert said.startswith("new does harm Engagement rate is lower with it than with old")
    assert (
        "Engagement rate: \u22123.00\u00a0% (always-valid 95 % interval \u22124.00 to "
        "\u22122.00\u00a0%)" in said
    )
    assert "Time spent: +3.00\u00a0%" in said


def test_what_got_worse_outside_of_the_rule_is_told_and_changes_nothing() -> None:
    worse = {
        PRIMARY: (0.01, 0.05),
        "novel_interests": (-0.3, -0.2),
        "gini": (0.2, 0.3),
        "topic_entropy": (-0.2, -0.1),
    }
    outcome, said = judged(**worse)
    assert outcome == "wins"
    assert "worse beyond chance: novel interest discovery \u221225.0\u00a0%" in said
    assert "gini of impressions +25.0\u00a0% (+20.0 to +30.0\u00a0%)" in said
    assert "entropy" not in said
    assert "beyond chance" not in judged(**{PRIMARY: (0.01, 0.05)})[1]


def test_the_fixed_interval_makes_no_winner() -> None:
    """Its lower bound is above 0 here; the always-valid one's is not."""
    tight = effect(PRIMARY, -0.01, 0.05)
    assert tight.lo > 0
    assert judged(**{PRIMARY: (-0.01, 0.05)})[0] == "open"


@pytest.mark.parametrize(
    ("log", "ratio", "word"),
    [
        (
            LOG,
            SampleRatio({"old": 5000, "new": 5400}, {"old": 5200.0, "new": 5200.0}, 9e-5, True),
            "Sample ratio",
        ),
        (replace(LOG, contaminated=round(MOST_CONTAMINATED * 10_010) + 5), FINE, "Contamination"),
        (
            replace(LOG, unusable={"Torn": (1001, 100_000)}),
            FINE,
            "Log: torn, 1,001 of 100,000 (1.0%); the bound is 1%",
        ),
        (
            replace(LOG, vanished={"new": "2025-03-08"}),
            FINE,
            "the arm new answers nobody from 2025-03-08 on",
        ),
        (replace(LOG, users={"old": 5000, "new": LEAST_USERS - 1}), FINE, "the arm new has 99"),
        (replace(LOG, users={}, unusable={}, contaminated=0), FINE, "could not be measured"),
    ],
)
def test_what_is_wrong_with_the_experiment_comes_before_any_effect(
    log: LogHealth, ratio: SampleRatio, word: str
) -> None:
    bounds = (
        {PRIMARY: (nan, nan)}
        if not log.users
        else {PRIMARY: (0.1, 0.2), "engagement_rate": (-0.2, -0.1)}
    )
    outcome, said = judged(log, ratio, **bounds)
    assert outcome == "unjudged"
    assert word in said


def test_an_arm_whose_users_engaged_without_being_served_decides_nothing() -> None:
    lost = NeverServed({"old": 0, "new": 149}, {"old": 740, "new": 754}, 1e-30, True)
    outcome, said = judged(unserved=lost, **{PRIMARY: (0.1, 0.2)})
    assert outcome == "unjudged"
    assert (
        "Never served: old 0 of 740, new 149 of 754 users engaged and were answered nothing" in said
    )


@pytest.mark.parametrize(
    ("old", "new", "p", "outcome"),
    [
        (0.0, 0.06, 1e-9, "unjudged"),
        (0.06, 0.06, 1.0, "unjudged"),
        (0.0, 0.02, 1e-9, "unjudged"),
        (0.02, 0.02, 0.7, "wins"),
        (0.0, 0.005, 1e-9, "wins"),
    ],
)
@pytest.mark.parametrize("name", DEVIATIONS)
def test_answers_that_are_not_what_their_arm_stands_for_are_few_and_alike(
    name: str, old: float, new: float, p: float, outcome: str
) -> None:
    answers = {"old": (round(old * 100_000), 100_000), "new": (round(new * 100_000), 100_000)}
    decided, said = judged(
        replace(LOG, deviations=[Deviation(name, answers, p)]), **{PRIMARY: (0.1, 0.2)}
    )
    assert decided == outcome
    assert (DEVIATIONS[name] in said.lower()) == (outcome == "unjudged")


def test_bounds_themselves_are_still_good() -> None:
    """At the bound is not beyond it."""
    users = {"old": 4950, "new": 4950}
    log = replace(
        LOG, users=users, contaminated=100, unusable={"Torn": (10, 1000)}, days=LEAST_DAYS
    )
    assert judged(log, **{PRIMARY: (0.01, 0.02)})[0] == "wins"


def test_nobody_wins_within_a_week_but_harm_is_told_at_once() -> None:
    early = replace(LOG, days=LEAST_DAYS - 1)
    outcome, said = judged(early, **{PRIMARY: (0.01, 0.05)})
    assert (outcome, "6 days are too few" in said) == ("open", True)
    assert judged(replace(LOG, days=1), **{GUARDRAILS[0]: (-0.05, -0.01)})[0] == "harms"


@pytest.mark.parametrize("guardrail", GUARDRAILS)
def test_nobody_wins_without_the_guardrails(guardrail: str) -> None:
    outcome, said = judged(**{PRIMARY: (0.01, 0.05), guardrail: (nan, nan)})
    assert outcome == "open"
    assert f"{METRICS[guardrail].title} could not be measured" in said


def test_the_rule_is_told_with_the_numbers_that_the_code_uses() -> None:
    told = " ".join(rule()).lower()
    for number in (
        "0.001",
        "1%",
        "100 users",
        "7 days",
        METRICS[PRIMARY].title,
        *(METRICS[g].title for g in GUARDRAILS),
    ):
        assert number.lower() in told


def test_changes_are_written_with_a_sign_and_without_false_digits() -> None:
    assert signed(0.00123) == "+0.12\u00a0%"
    assert signed(-0.5) == "\u221250.0\u00a0%"
    assert signed(nan) == "—"
