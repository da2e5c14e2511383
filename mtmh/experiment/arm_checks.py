"""Checks of a log by arm and user: answers of no arm or of two, users between arms, days without
one.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from mtmh.experiment.arms import NO_ARM
from mtmh.experiment.findings import CheckInput, LogFinding, count_rows


def check_answers(data: CheckInput) -> Iterator[LogFinding]:
    requests = data.requests.filter(data.requests.day >= data.first)
    anonymous = requests.filter(requests.user_id.isnull())
    means = "belong to no unit: not counted."
    yield count_rows("no_user", "Answers without a user", "answers", means, anonymous)
    two = (requests.user_id != requests.other_user) | (requests.arm != requests.other_arm)
    means = "one id, but two users or two arms: nobody knows whose they are; not counted."
    title = "Answers of two users or arms"
    yield count_rows("mixed_answers", title, "answers", means, requests.filter(two))

    # An experiment begins and ends within a day: before the first answer of an arm on the first
    # day, and after the last one on the last day, answers without an arm are in order.
    experiment = data.folder.experiment
    of_arms = data.requests.filter(data.requests.arm.isin(data.arms))
    begin = of_arms.timestamp.min().as_scalar().to_pyarrow().as_py()
    end = of_arms.timestamp.max().as_scalar().to_pyarrow().as_py()
    outside: ir.BooleanValue = ibis.literal(False)
    if begin is not None:
        early = requests.timestamp < ibis.literal(begin)
        late = requests.timestamp > ibis.literal(end)
        on_first, on_last = (
            requests.day == day for day in (experiment.first_day, experiment.last_day)
        )
        outside = (requests.arm == NO_ARM) & ((on_first & early) | (on_last & late))
    names = ", ".join(data.arms)
    means = f"served by an arm that experiment.json does not name ({names}): not counted."
    unknown = requests.filter(~requests.arm.isin(data.arms) & ~two.fill_null(False) & ~outside)
    yield count_rows("unknown_arm", "Answers of unknown arms", "answers", means, unknown)
    means = (
        "answered without an arm on the first day before an arm's first answer, or on the last day "
        "after its last: not part of the experiment, not counted."
    )
    title = "Answers before or after the arms"
    yield count_rows("outside_arms", title, "answers", means, requests.filter(outside))


def check_deviations(data: CheckInput) -> Iterator[LogFinding]:
    """Answers that are not what the arm stands for."""
    means = (
        "answered with another alpha than the arm's, such as the caller's own: these exposures are "
        "left out."
    )
    title = "Answers with an alpha of their own"
    yield _by_arm(data, "own_alpha", title, means, data.own_alpha)
    means = (
        "something did not answer in time: counted as they were answered, for that is what the "
        "arm's users got."
    )
    degraded = data.requests.filter(data.requests.degraded, data.requests.user_id.notnull())
    yield _by_arm(data, "degraded", "Degraded answers", means, degraded)


def _by_arm(data: CheckInput, name: str, title: str, means: str, answers: ir.Table) -> LogFinding:
    """How many `answers` there are, and their share in each arm as the example."""
    # By arm: all answers of these days, then the ones that deviate.
    counts: list[dict[str, int]] = []
    for rows in (data.requests, answers):
        by_arm = rows.filter(rows.day >= data.first).group_by("arm").agg(n=ibis._.count())
        counts.append({row["arm"]: row["n"] for row in by_arm.to_pyarrow().to_pylist()})
    total, deviating = counts
    arms = [arm for arm in data.arms if total.get(arm)]
    shares = [f"{arm}: {deviating.get(arm, 0) / total[arm]:.2%} of {total[arm]:,}" for arm in arms]
    count = sum(deviating.get(arm, 0) for arm in arms)
    return LogFinding(name, title, count, "answers", means, "; ".join(shares) if count else None)


def check_users(data: CheckInput) -> Iterator[LogFinding]:
    both = data.users.contaminated
    example = None
    if len(both):
        name = both[0].as_py()
        answers = data.requests.filter(data.requests.user_id == name)
        arms = answers.select("arm").distinct().to_pyarrow()["arm"].to_pylist()
        example = f"{name}: {', '.join(sorted(arms))}"
    means = "served by two arms up to the last of these days: left out of all figures."
    yield LogFinding("contaminated", "Users in two arms", len(both), "users", means, example)

    # Their answers are lost, or they came without one: does one arm have more of these users?
    counts = []
    for number, arm in enumerate(data.arms):
        of_arm = data.users.arm == number
        unserved = int((of_arm & ~data.users.served).sum())
        counts.append(f"{arm}: {unserved:,} of {int(of_arm.sum()):,}")
    count = int((~data.users.served).sum())
    example = "; ".join(counts) if count else None
    means = (
        "engaged, but no answer of an arm to them is in the log: counted in the arm of their "
        "bucket."
    )
    yield LogFinding("never_served", "Users never served", count, "users", means, example)
    other = data.users.user_id.filter(pa.array(data.users.assignment_mismatch))
    example = other[0].as_py() if len(other) else None
    means = (
        "served by another arm than salt and weights give them: counted in the arm that served "
        "them."
    )
    title = "Users in another arm than theirs"
    yield LogFinding("misplaced", title, len(other), "users", means, example)


def check_days(data: CheckInput) -> Iterator[LogFinding]:
    days = [data.first + timedelta(days=n) for n in range((data.last - data.first).days + 1)]
    answers = data.requests.group_by("arm", "day").agg(answers=data.requests.count()).to_pyarrow()
    arm_days = set(zip(answers["arm"].to_pylist(), answers["day"].to_pylist(), strict=True))
    begin = data.folder.experiment.first_day
    span = [begin + timedelta(days=n) for n in range((data.last - begin).days + 1)]
    some = [day for day in span if any((arm, day) in arm_days for arm in data.arms)]
    # An arm without answers up to the end vanished; one with answers again has holes.
    gone, holes = [], []
    for arm in data.folder.experiment.arms:
        served = [day for day in some if (arm.name, day) in arm_days]
        missing = [day for day in some if day not in served]
        if arm.weight > 0 and missing:
            since = next((day for day in some if day > max(served, default=date.min)), None)
            if since is not None:
                when = f"since {since}" if served else "at all"
                gone.append(f"{arm.name}: no answers {when}")
            holes += [f"{arm.name} on {day}" for day in missing if since is None or day < since]
    means = "answers nobody from some day on, while others do: comparisons end there."
    example = "; ".join(gone) or None
    yield LogFinding("vanished_arms", "Arms that vanished", len(gone), "arms", means, example)
    means = (
        "without an answer of the arm between days that have some: its figures of these days are "
        "empty."
    )
    example = holes[0] if holes else None
    yield LogFinding("missing_arm_days", "Days without an arm", len(holes), "days", means, example)
    empty = [day for day in days if day not in some]
    means = "no answer of any arm: all figures of these days are empty."
    example = str(empty[0]) if empty else None
    yield LogFinding("empty_days", "Days without exposures", len(empty), "days", means, example)
    active = set(data.events.select("day").distinct().to_pyarrow()["day"].to_pylist())
    quiet = [day for day in days if day not in active]
    means = "no engagement of anybody: is the log of engagements connected?"
    example = str(quiet[0]) if quiet else None
    yield LogFinding("quiet_days", "Days without engagements", len(quiet), "days", means, example)
