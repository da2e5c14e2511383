"""The verdict of a comparison, by a rule that is fixed here, before any result is looked at, and
printed on the page.

The rule asks, in this order: can the comparison be judged at all; does the treatment harm; does it
win. Every interval that decides is the always-valid one, so that looking every day costs nothing:
the chance that a treatment without any effect is ever called a winner, on whatever day one stops,
is at most 5 %.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mtmh.experiment.arm_effects import DEVIATIONS, Deviation
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics.effects import Effect
from mtmh.experiment.statistics.sample_ratio import ALARM, NeverServed, SampleRatio

Outcome = Literal["wins", "open", "harms", "unjudged"]

PRIMARY = "time_spent"
GUARDRAILS = ("daily_active_users", "engagement_rate")
MOST_CONTAMINATED = 0.01  # share of the users who were in two arms, or not in that of their bucket
MOST_UNUSABLE = 0.01  # share of the log that could not be used, as in the data contract
MOST_DEVIATING = 0.05  # share of an arm's answers that were degraded, or had an alpha of their own
UNLIKE_FROM = 0.01  # and from this share on, the arms must not differ in it
MOST_OF_ONE_USER = (
    0.1  # share of an arm's sum that a single user holds: above, the arm is that user
)
LEAST_USERS = 100  # of each arm: below, a mean is not normal enough for any interval here
LEAST_DAYS = 7  # a week, before anybody wins: weekdays differ, and what is new draws attention
PERCENT = "\u00a0%"


@dataclass(frozen=True)
class LogHealth:
    """What is known about the log that the comparison stands on."""

    days: int  # with rows, of those compared
    users: Mapping[str, int]  # arm -> users that are compared
    contaminated: int  # users in two arms, who are left out, and in another one than their bucket's
    # What was wrong -> how many were not used, and of how many.
    unusable: Mapping[str, tuple[int, int]]
    vanished: Mapping[str, str]  # arm -> the day from which on it answered nobody
    deviations: Sequence[Deviation] = ()  # answers that are not what their arm stands for

    def obstacles(self) -> Iterator[str]:
        """What the log lacks for a verdict."""
        # Users in two arms are not among those compared: the share is of both.
        everyone = sum(self.users.values()) + self.contaminated
        if self.contaminated > MOST_CONTAMINATED * everyone:
            yield (
                f"Contamination: {self.contaminated:,} of {everyone:,} users "
                f"({self.contaminated / everyone:.1%}) were in two arms, or not in that of their "
                f"bucket; the bound is {MOST_CONTAMINATED:.0%}."
            )
        for what, (count, total) in self.unusable.items():
            if count > MOST_UNUSABLE * total:
                yield (
                    f"Log: {what.lower()}, {count:,} of {total:,} ({count / total:.1%}); the bound "
                    f"is {MOST_UNUSABLE:.0%}."
                )
        # An arm that is gone, or too small, says nothing about the treatment.
        for arm, day in self.vanished.items():
            yield f"Log: the arm {arm} answers nobody from {day} on."
        for arm, users in self.users.items():
            if users < LEAST_USERS:
                yield f"Users: the arm {arm} has {users:,}, and {LEAST_USERS} are the least."
        for deviation in self.deviations:
            # Much of it spoils an arm by itself; a little of it only where the arms differ.
            most = max(deviation.shares.values())
            words = DEVIATIONS[deviation.name]
            shares = ", ".join(f"{arm} {share:.1%}" for arm, share in deviation.shares.items())
            if most > MOST_DEVIATING:
                bound = f"the bound is {MOST_DEVIATING:.0%} of an arm's answers"
                yield f"Log: {words}, {shares}; {bound}."
            # A p that is NaN is no all-clear.
            elif most > UNLIKE_FROM and not deviation.p >= ALARM:
                p = f"(p = {deviation.p:.1g})"
                yield f"Log: {words}, {shares} {p}: the arms were not served alike."


@dataclass(frozen=True)
class Verdict:
    """What the rule says, in words."""

    outcome: Outcome
    title: str
    lead: str  # one sentence
    reasons: tuple[str, ...]  # what decided, each with its numbers


def rule() -> list[str]:
    """The rule in words, from the numbers that the code uses."""
    primary, guards = _name(PRIMARY), " or ".join(_name(name) for name in GUARDRAILS)
    # A sentence for each outcome, in the order in which they are tried.
    return [
        f"It cannot be judged when the sample ratio's p is below {ALARM:g}, or that of as many "
        "users in each arm who engaged and were never served, when more than "
        f"{MOST_CONTAMINATED:.0%} of the users were in two arms (or not in that of their bucket), "
        f"when more than {MOST_UNUSABLE:.0%} of the log could not be used, when an arm vanished "
        f"from it, when an arm has fewer than {LEAST_USERS} users, when more than "
        f"{MOST_DEVIATING:.0%} of an arm's answers were degraded or had another alpha than the "
        f"arm's, when more than {UNLIKE_FROM:.0%} were and the arms differ in it (p below "
        f"{ALARM:g}, users as units), when one user holds more than {MOST_OF_ONE_USER:.0%} of what "
        f"an arm's {primary} or a guardrail is made of, or when {primary} could not be measured.",
        f"The treatment harms when the always-valid interval of {guards} (the guardrails), or of "
        f"{primary} itself, lies below 0. Guardrails are not corrected for being several: a false "
        "alarm costs less than a missed one.",
        f"The treatment wins when the always-valid interval of {primary} (the primary metric) lies "
        f"above 0, no guardrail is harmed, and at least {LEAST_DAYS} days were compared.",
        "Otherwise there is no winner yet. No other metric, no segment and no p-value can change "
        "the verdict.",
    ]


def judge(
    effects: Sequence[Effect],
    ratio: SampleRatio,
    unserved: NeverServed,
    log: LogHealth,
    control: str,
    treatment: str,
) -> Verdict:
    """The verdict. A guardrail that could not be measured is named, and rules out a win."""
    measured = {effect.metric: effect for effect in effects if effect.is_measured}
    obstacles = list(_obstacles(effects, ratio, unserved, log))
    if obstacles:
        lead = (
            f"What is wrong with the experiment itself decides nothing about {treatment}. Mend "
            "that first."
        )
        title = "This comparison cannot be judged"
        return Verdict("unjudged", title, lead, tuple(obstacles))

    # Does it harm? The harmed metrics come first in the reasons.
    primary = measured[PRIMARY]
    guardrails = [measured[name] for name in GUARDRAILS if name in measured]
    harmed = [effect for effect in (*guardrails, primary) if effect.always_hi < 0]
    if harmed:
        first, *others = [effect.metric for effect in harmed]
        names = " and ".join([_title(first), *map(_name, others)])
        rest = [effect for effect in (primary, *guardrails) if effect not in harmed]
        reasons = [f"{_title(effect.metric)}: {interval(effect)}" for effect in (*harmed, *rest)]
        are = "are" if len(harmed) > 1 else "is"
        lead = f"{names} {are} lower with it than with {control}, and that is no chance."
        return Verdict("harms", f"{treatment} does harm", lead, tuple(reasons))
    return _without_harm(effects, measured, log.days, control, treatment)


def interval(effect: Effect) -> str:
    """Lift and always-valid interval as the page writes them."""
    return (
        f"{signed(effect.lift)} (always-valid 95 % interval "
        f"{between(effect.always_lo, effect.always_hi)})"
    )


def between(low: float, high: float) -> str:
    """An interval of relative changes; a dash where there is none."""
    if low != low or high != high:
        return "—"
    return f"{signed(low).removesuffix(PERCENT)} to {signed(high)}"


def signed(share: float | None) -> str:
    """A relative change; a dash where there is none."""
    if share is None or share != share:
        return "—"
    # From 9.95 % on, which would be written as 10.0 %, one digit is enough.
    digits = 2 if abs(share) < 0.0995 else 1
    return f"{100 * share:+.{digits}f}{PERCENT}".replace("-", "\u2212")


def _obstacles(
    effects: Sequence[Effect], ratio: SampleRatio, unserved: NeverServed, log: LogHealth
) -> Iterator[str]:
    """Why the comparison cannot be judged."""
    # Users, or their exposures, that an arm lost.
    if ratio.alarm:
        shares = ", ".join(f"{arm} {users:,}" for arm, users in ratio.observed.items())
        wanted = ", ".join(f"{arm} {users:,.0f}" for arm, users in ratio.expected.items())
        yield (
            f"Sample ratio: {shares} users served, where {wanted} were to be expected (p = "
            f"{ratio.p:.1g}). Users are lost or counted in one arm only, and those who are left "
            "are not alike."
        )
    if unserved.alarm:
        shares = ", ".join(
            f"{arm} {users:,} of {unserved.of[arm]:,}" for arm, users in unserved.users.items()
        )
        yield (
            f"Never served: {shares} users engaged and were answered nothing that is in the log "
            f"(p = {unserved.p:.1g}). An arm's exposures are lost, or come without an arm."
        )
    yield from log.obstacles()
    # Figures that are not there, or that a single user makes.
    if not any(effect.metric == PRIMARY and effect.is_measured for effect in effects):
        yield f"{_title(PRIMARY)} could not be measured in both arms."
    for effect in [effect for effect in effects if effect.metric in (PRIMARY, *GUARDRAILS)]:
        for largest in effect.largest:
            if largest.share > MOST_OF_ONE_USER:
                column = largest.column.replace("_", " ")
                yield (
                    f"{_title(effect.metric)}: one user ({largest.user_id}) holds "
                    f"{largest.share:.0%} of the {column} of the arm {largest.arm}; the bound is "
                    f"{MOST_OF_ONE_USER:.0%}."
                )


def _without_harm(
    effects: Sequence[Effect],
    measured: Mapping[str, Effect],
    days: int,
    control: str,
    treatment: str,
) -> Verdict:
    """The verdict on a treatment that harms nothing: it wins, or nobody does yet."""
    primary = measured[PRIMARY]
    missing = [name for name in GUARDRAILS if name not in measured]
    deciding = [measured[name] for name in (PRIMARY, *GUARDRAILS) if name in measured]
    reasons = [f"{_title(effect.metric)}: {interval(effect)}" for effect in deciding]
    reasons += [f"{_title(name)}: could not be measured" for name in missing]
    # What the rule does not look at, and a reader of the verdict must not overlook.
    worse = []
    for effect in effects:
        if effect.metric not in (PRIMARY, *GUARDRAILS) and effect.is_worse:
            bounds = between(effect.always_lo, effect.always_hi)
            worse.append(f"{_name(effect.metric)} {signed(effect.lift)} ({bounds})")
    if worse:
        reasons.append(f"Outside of the rule, and worse beyond chance: {', '.join(worse)}")

    if missing:
        names = ", ".join(map(_title, missing))
        lead = f"{names} could not be measured, and nobody wins without the guardrails."
    elif not primary.always_lo > 0:
        bounds = between(primary.always_lo, primary.always_hi)
        lead = (
            f"What {_name(PRIMARY)} shows may be chance: anything from {bounds} goes with these "
            f"{days} days."
        )
    elif days < LEAST_DAYS:
        lead = (
            f"{_title(PRIMARY)} is higher so far, but {days} days are too few: {LEAST_DAYS} are "
            "the least."
        )
    else:
        lead = (
            f"{_title(PRIMARY)} is higher with it than with {control}, and no guardrail is harmed."
        )
        return Verdict("wins", f"{treatment} wins", lead, tuple(reasons))
    return Verdict("open", "No winner yet", lead, tuple(reasons))


def _title(metric: str) -> str:
    return METRICS[metric].title


def _name(metric: str) -> str:
    """The title inside a sentence."""
    return METRICS[metric].title[0].lower() + METRICS[metric].title[1:]
