"""The page's sentences and numbers: what was corrected for, and what a comparison cannot tell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from mtmh.experiment.comparison import ArmComparison
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.segments import HEAVY_SHARE, LEAST_USERS, NEW_DAYS, NEW_ENGAGEMENTS
from mtmh.experiment.statistics import Effect
from mtmh.experiment.statistics.moments import PRE_PERIOD_DAYS
from mtmh.experiment.statistics.sample_ratio import ALARM, NeverServed, SampleRatio
from mtmh.experiment.verdict import PRIMARY, signed


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 day, 2 days."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def value(number: float, unit: str) -> str:
    """A metric's value as the page shows it; a dash where there is none."""
    if number != number:
        return "—"
    if unit.startswith("share"):
        return f"{100 * number:.2f}\u00a0%"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def p_value(p: float) -> str:
    """A p-value to three digits, never as a bare 0."""
    if p != p:
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def ratio(counts: SampleRatio, unserved: NeverServed) -> dict[str, Any]:
    """The sample ratio in a sentence, users who were never served in another, and a row an arm."""
    rows = []
    for arm, expected in counts.expected.items():
        observed = counts.observed.get(arm, 0)
        # An arm that expects nobody (weight 0) has no share to be off by.
        difference = signed(observed / expected - 1) if expected else "—"
        row = {"arm": arm, "observed": observed, "expected": expected, "difference": difference}
        rows.append(row)
    words = (
        "A chi-square test of the users served in each arm against the buckets' shares gives p = "
        f"{p_value(counts.p)}"
    )
    if counts.alarm:
        words += (
            f": an alarm (p below {ALARM:g}). Users are missing from an arm, and no figure here "
            "can be trusted."
        )
    else:
        words += f": no alarm (that is at p below {ALARM:g})."
    shares = ", ".join(
        f"{arm} {users:,} of {unserved.of[arm]:,}" for arm, users in unserved.users.items()
    )
    words += f" Users who engaged and were never served: {shares}"
    # p is NaN where there is nothing to test, as when everybody was served.
    if not np.isnan(unserved.p):
        alarm = "an" if unserved.alarm else "no"
        words += f"; as many in each arm: p = {p_value(unserved.p)}, {alarm} alarm"
    # "p = < 0.001" reads as "p < 0.001".
    return {"words": (words + ".").replace("= <", "<"), "rows": rows}


def segments(comparison: ArmComparison) -> str:
    """How the segments were made, and how far they are to be believed."""
    tests = len(comparison.segments)
    # How they are made comes first: a segment that an arm could change would show effects that
    # are none.
    words = (
        "By what users did before the experiment, so that no arm can change who is in which. New "
        f"users: first seen in the last {NEW_DAYS} days before it, or with at most "
        f"{NEW_ENGAGEMENTS} engagements before it. Heavy users: the {HEAVY_SHARE:.0%} with the "
        "most engagements. Topics: the coarse topic of most of a user's engagements. "
    )
    # What p-values are worth needs no words where there are none.
    if not tests:
        return words + f"No segment has {LEAST_USERS} users in each arm, so none is compared."
    return words + (
        f"These {tests} comparisons are a search for questions, not answers: the verdict does not "
        "look at them. The intervals are fixed 95 % ones, each for itself; the p-values are "
        "corrected for all of them together (Holm), and those below 0.05 are bold. Whether two "
        "segments differ from each other is not tested."
    )


def segment_notes(comparison: ArmComparison) -> list[str]:
    """What is not shown of the segments."""
    if not comparison.too_small:
        return []
    names = ", ".join(
        f"{segment.name} ({len(segment.users):,})" for segment in comparison.too_small
    )
    return [f"Too small to compare (fewer than {LEAST_USERS} users in an arm): {names}."]


def corrected(comparison: ArmComparison) -> list[str]:
    """Everything that was done so that chance is not taken for an effect."""
    # NaN is not equal to itself: a metric without a p was not tested, and not corrected for.
    tested = sum(effect.p == effect.p for effect in comparison.effects)
    adjusted = [METRICS[effect.metric].title for effect in comparison.effects if effect.cuped]
    # CUPED needs a metric's figures from before the experiment, which a history may lack.
    past = "Users' own past: for no metric, as there is no history with its figures."
    if adjusted:
        past = (
            f"Users' own past (CUPED, from up to {PRE_PERIOD_DAYS} days before the experiment): "
            f"{', '.join(adjusted)}. It makes intervals narrower and shifts no effect."
        )
    return [
        "Looking every day: the always-valid interval holds on all days at once. The fixed one "
        "would call more and more false winners the more often one looks.",
        f"Several metrics: the p-values of the effects are corrected for {tested} metrics (Holm). "
        "They belong to the fixed interval: for one look, at the planned end.",
        "Several segments: corrected among themselves, see there.",
        past,
        *winsorized(comparison.effects),
        "Days of one user are not independent: the user is the unit, ratios by the delta method, "
        "and what is counted over sets of items or topics by a jackknife over 100 buckets of "
        "users, with arms brought to equal size.",
        f"Users who were in two arms are left out ({comparison.log.contaminated:,}).",
    ]


def winsorized(effects: Sequence[Effect]) -> list[str]:
    """What was done to the users who had most, and what the change would be without it."""
    percentile = f"{100 * DEFINITIONS.winsorized_share:g}th percentile"
    sentences = []
    for effect in effects:
        cut = effect.winsorized
        if cut is not None:
            sentences.append(
                f"Few users who have very much: {METRICS[effect.metric].title.lower()} is "
                f"winsorized at the {percentile} of both arms' users who have any: "
                f"{count(cut.users, 'user')}, whose totals count as {cut.limit:,.4g}. Without that "
                f"and without their past, the change of the means is {signed(cut.plain_lift)}, "
                f"here {signed(effect.lift)}."
            )
    return sentences


def limits(comparison: ArmComparison) -> list[str]:
    """What nobody should read out of this page."""
    experiment = comparison.experiment
    days = len(comparison.days)
    spill = (
        "What happens when everyone gets the treatment: both arms share items, creators and "
        "popularity, so one arm may have lived on what the other one did."
    )
    if experiment.simulated:
        spill = (
            "What spills over from one arm to the other: between these simulated users nothing "
            "can, in life it may."
        )
    sentences = []
    if experiment.simulated:
        sentences.append(
            "Anything about people. The users are simulated: they cannot want what the model of "
            "their behaviour does not know, they do not talk to each other, and how large an "
            "effect is hangs on numbers that were assumed."
        )
    # How large must an effect on the primary metric be to be seen in four experiments of five?
    primary = {effect.metric: effect for effect in comparison.effects}.get(PRIMARY)
    if primary is not None and np.isfinite([primary.always_lo, primary.always_hi]).all():
        error = (primary.hi - primary.lo) / (2 * norm.ppf(0.975))
        least = (primary.always_hi - primary.always_lo) / 2 + norm.ppf(0.8) * error
        sentences.append(
            "Small effects: with these users and days, a change of "
            f"{METRICS[PRIMARY].title.lower()} by less than about {100 * least:.2g}\u00a0% goes "
            "unseen more than one time in five."
        )
    sentences += [
        f"What happens after {count(days, 'day')}: people get used to what is new, and tastes that "
        "take months to change have not changed yet.",
        spill,
        "What training on the treatment's own log would do: both arms were served by the same "
        "trained version.",
        "Anything about users who never appear in the log, or were served without a user_id: they "
        "are in no arm here.",
        "Why an effect is there. The metrics of what people were shown change because the "
        "treatment is made to change them; that alone is no benefit.",
        "That there is no harm. A guardrail that is not harmed may still have got worse by as much "
        "as its interval reaches below 0.",
    ]
    if days < experiment.days:
        so_far = f"{count(days, 'day')} of {experiment.days} have been compared so far."
        sentences.append(f"The planned end: {so_far}")
    return sentences


def notes(comparison: ArmComparison) -> list[str]:
    """Why figures are missing."""
    reasons: dict[str, list[str]] = {}
    for effect in comparison.effects:
        if effect.reason:
            reasons.setdefault(effect.reason, []).append(METRICS[effect.metric].title)
    return [f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items()]
