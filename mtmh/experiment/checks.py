"""What was wrong in a log: each kind of bad row counted, with an example and what became of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.experiment import relations
from mtmh.experiment.arms import NO_ARM
from mtmh.experiment.catalog import ItemTable, UserTable
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.folder import ExperimentFolder
from mtmh.exposures.compact import TABLES, committed
from mtmh.exposures.read import LogRelations


@dataclass(frozen=True)
class LogFinding:
    """One check of the log; `count` is 0 and `example` None where all is well."""

    name: str
    title: str
    count: int
    of: str  # what is counted: exposures, engagements, answers, users, days ..
    means: str  # what became of them
    example: str | None


@dataclass(frozen=True)
class CheckInput:
    """What the checks look at. The tables from `lists` on begin a day before `first`."""

    place: ExperimentFolder
    log: LogRelations
    now: datetime
    first: date
    last: date
    users: UserTable
    catalog: ItemTable
    history: ir.Table  # user_id, item_id, day, value
    asked: ir.Table  # relations.requests, from the experiment's first day to `last`
    own_alpha: ir.Table  # those of them in one arm that relations.with_own_alpha gives
    lists: ir.Table
    shown: ir.Table
    repeats: ir.Table
    events: ir.Table
    found: ir.Table  # relations.attributed


Check = Callable[[CheckInput], Iterator[LogFinding]]


def find(evidence: CheckInput) -> tuple[LogFinding, ...]:
    """Every check's findings, the ones that found nothing included, always in the same order."""
    return tuple(finding for check in _CHECKS for finding in check(evidence))


def _rejected(e: CheckInput) -> Iterator[LogFinding]:
    rows = e.log.rejected
    example = None
    if rows.num_rows:
        row = rows.slice(0, 1).to_pylist()[0]
        content = row["content"][:80].decode(errors="replace")
        example = f"{row['segment']} at byte {row['start']}: {row['reason']}: {content}"
    means = "of the whole log: no valid record, so not in any figure; kept in tables/rejected."
    yield LogFinding("rejected", "Malformed records", rows.num_rows, "records", means, example)


def _clocks(e: CheckInput) -> Iterator[LogFinding]:
    experiment, now = e.place.experiment, ibis.literal(e.now + relations.SKEW)
    for of in TABLES:
        rows = getattr(e.log, of)
        rows = rows.select("timestamp", "request_id", "user_id", "item_id", "day")
        means = "outside the days of the experiment: not counted."
        yield _finding(
            f"{of}_before",
            f"{of.title()} before the first day",
            of,
            means,
            rows.filter(rows.day < experiment.first_day),
        )
        late = (rows.day > experiment.last_day) | (rows.timestamp > now)
        means = "after the last day, or later than it is now: a wrong clock; not counted."
        yield _finding(f"{of}_after", f"{of.title()} from the future", of, means, rows.filter(late))


def _late(e: CheckInput) -> Iterator[LogFinding]:
    """Rows of a day that came in a batch after one that had rows of the day after the next."""
    batches = committed(e.place.tables).batches
    for of in TABLES:
        files: dict[str, list[tuple[date, Path]]] = {}
        for path in (e.place.tables / of).glob("day=*/*.parquet"):
            if path.stem in batches:
                day = date.fromisoformat(path.parent.name.removeprefix("day="))
                files.setdefault(path.stem, []).append((day, path))
        late: list[tuple[date, Path]] = []
        newest = e.place.experiment.first_day
        for batch in sorted(files):  # a batch's name begins with the time at which it was written
            late += [(day, path) for day, path in files[batch] if day < newest - timedelta(days=1)]
            days = [day for day, _ in files[batch] if day <= e.place.experiment.last_day]
            newest = max([newest, *days])
        late = sorted((day, path) for day, path in late if e.first <= day <= e.last)
        count = sum(pq.read_metadata(path).num_rows for _, path in late)
        example = f"{late[0][1].relative_to(e.place.folder)}" if late else None
        means = "came after rows of a day at least two days later: counted in their day, whose figures have changed."
        yield LogFinding(f"late_{of}", f"Late {of}", count, of, means, example)


def _answers(e: CheckInput) -> Iterator[LogFinding]:
    asked = e.asked.filter(e.asked.day >= e.first)
    arms = [arm.name for arm in e.place.experiment.arms]
    yield _finding(
        "no_user",
        "Answers without a user",
        "answers",
        "belong to no unit: not counted.",
        asked.filter(asked.user_id.isnull()),
    )
    two = (asked.user_id != asked.other_user) | (asked.arm != asked.other_arm)
    means = "one id, but two users or two arms: nobody knows whose they are; not counted."
    yield _finding("mixed_answers", "Answers of two users or arms", "answers", means, asked.filter(two))
    means = f"served by an arm that experiment.json does not name ({', '.join(arms)}): not counted."
    outside = _outside_arms(e, asked)
    unknown = ~asked.arm.isin(arms) & ~two.fill_null(False) & ~outside
    yield _finding("unknown_arm", "Answers of unknown arms", "answers", means, asked.filter(unknown))
    means = "answered without an arm on the first day before an arm's first answer, or on the last day after its last: "
    means += "not part of the experiment, not counted."
    yield _finding("outside_arms", "Answers before or after the arms", "answers", means, asked.filter(outside))


def _outside_arms(e: CheckInput, asked: ir.Table) -> ir.BooleanValue:
    """Whether an answer without an arm came before the first answer of an arm, on the first day, or after the last one,
    on the last day: an experiment begins and ends within a day."""
    experiment = e.place.experiment
    of_arms = e.asked.filter(e.asked.arm.isin([arm.name for arm in experiment.arms]))
    begin, end = (
        value.as_scalar().to_pyarrow().as_py() for value in (of_arms.timestamp.min(), of_arms.timestamp.max())
    )
    if begin is None:
        return ibis.literal(False)
    early = (asked.day == experiment.first_day) & (asked.timestamp < ibis.literal(begin))
    late = (asked.day == experiment.last_day) & (asked.timestamp > ibis.literal(end))
    return (asked.arm == NO_ARM) & (early | late)


def _duplicates(e: CheckInput) -> Iterator[LogFinding]:
    items = e.catalog.numbered().select("item", "item_id")
    rows = e.repeats.inner_join(e.lists.select("list", "exposure_id", "day"), "list").inner_join(items, "item")
    rows = rows.filter(rows.day >= e.first).select("exposure_id", "item_id", "rows", more=rows.rows - 1)
    means = "the same item again in the same answer: counted once."
    yield _finding("duplicate_exposures", "Duplicate exposures", "exposures", means, rows, weight="more")
    rows = e.events.filter(e.events.day >= e.first, e.events.copies > 1).inner_join(items, "item")
    rows = rows.select("request_id", "item_id", "event", "timestamp", "copies", more=rows.copies - 1)
    means = "sent again, by event_id, by a call that came again, or by user, item, event and microsecond: counted once."
    yield _finding("duplicate_engagements", "Duplicate engagements", "engagements", means, rows, weight="more")


def _deviations(e: CheckInput) -> Iterator[LogFinding]:
    """Answers that are not what the arm stands for."""
    means = "answered with another alpha than the arm's, such as the caller's own: these exposures are left out."
    yield _by_arm(e, "own_alpha", "Answers with an alpha of their own", means, e.own_alpha)
    means = "something did not answer in time: counted as they were answered, for that is what the arm's users got."
    degraded = e.asked.filter(e.asked.degraded, e.asked.user_id.notnull())
    yield _by_arm(e, "degraded", "Degraded answers", means, degraded)


def _by_arm(e: CheckInput, name: str, title: str, means: str, answers: ir.Table) -> LogFinding:
    """How many `answers` there are, and their share in each arm as the example."""
    days = e.asked.day >= e.first
    counts = {
        row["arm"]: row["n"]
        for row in e.asked.filter(days).group_by("arm").agg(n=ibis._.count()).to_pyarrow().to_pylist()
    }
    rows = answers.filter(answers.day >= e.first).group_by("arm").agg(n=ibis._.count()).to_pyarrow().to_pylist()
    deviating = {row["arm"]: row["n"] for row in rows}
    arms = [arm.name for arm in e.place.experiment.arms if counts.get(arm.name)]
    shares = [f"{arm}: {deviating.get(arm, 0) / counts[arm]:.2%} of {counts[arm]:,}" for arm in arms]
    count = sum(deviating.get(arm, 0) for arm in arms)
    return LogFinding(name, title, count, "answers", means, "; ".join(shares) if count else None)


def _beyond_a_day(e: CheckInput) -> Iterator[LogFinding]:
    """Dwell and values that nobody can have: of one engagement, and of a user on one day."""
    rows = e.log.engagements.filter(e.log.engagements.day.between(e.first, e.last))
    rows = rows.select("user_id", "item_id", "day", "timestamp", "value", "dwell_seconds")
    longest, largest = DEFINITIONS.longest_dwell_seconds, DEFINITIONS.largest_value
    means = f"dwell below 0 or above {longest:,.0f} s, or a value beyond {largest:,.0f}: not counted."
    yield _finding(
        "impossible_engagements", "Impossible engagements", "engagements", means, rows.filter(~relations.possible(rows))
    )
    capped = relations.capped(e.events.filter(e.events.day >= e.first)).inner_join(e.users.numbered(), "user")
    cut = (capped.seconds - longest).sum().to_pyarrow().as_py() or 0.0
    means = f"more dwell than a day has: counted as {longest:,.0f} s each, {cut:,.0f} s less in all."
    rows = capped.select("user_id", "day", "seconds")
    yield _finding("capped_days", "Days with too much dwell", "user days", means, rows)


def _order(e: CheckInput) -> Iterator[LogFinding]:
    items = e.catalog.numbered().select("item", "item_id")
    recent = e.events.filter(e.events.day >= e.first)
    # Others may be of one's own accord.
    named = recent.mutate(answer=recent.exposure_id.coalesce(recent.request_id)).filter(ibis._.answer.notnull())
    own = e.own_alpha.select(answer="exposure_id").union(e.own_alpha.select(answer="request_id"))
    named = named.anti_join(own, "answer")
    events = named.inner_join(items, "item").select("event_id", "answer", "item_id", "timestamp")
    known = events.inner_join(e.found.select("event_id", "answered"), "event_id")
    minutes = int(relations.SKEW.total_seconds()) // 60
    means = f"counted; those more than {minutes} minutes before it go back to no impression."
    early = known.filter(known.timestamp < known.answered).drop("event_id")
    yield _finding("out_of_order", "Engagements before their exposure", "engagements", means, early)
    hours = ibis.interval(seconds=int(relations.WINDOW.total_seconds()))
    lost = events.anti_join(e.found, "event_id")
    asked = e.asked.select("timestamp", "day", answer="exposure_id")
    asked = asked.union(e.asked.select("timestamp", "day", answer="request_id"))
    asked = asked.group_by("answer").agg(answered=ibis._.timestamp.min(), asked_day=ibis._.day.min())
    lost = lost.left_join(asked, "answer").select(*events.columns, "answered", "asked_day")
    old = (lost.asked_day < max(e.first - timedelta(days=1), e.place.experiment.first_day)).fill_null(False)
    late = known.filter(known.timestamp > known.answered + hours)
    late = late.union(lost.filter(old).select(*late.columns)).drop("event_id")
    means = f"counted; more than {DEFINITIONS.attribution_hours} h after it, they go back to no impression."
    yield _finding("late_engagement_of_exposure", "Engagements long after their exposure", "engagements", means, late)
    means = (
        "name an answer that is not in the log, or not to this user, or without the item: counted, but go back to none."
    )
    yield _finding(
        "unattributed",
        "Engagements without their exposure",
        "engagements",
        means,
        lost.filter(~old).drop("event_id", "asked_day"),
    )


def _items(e: CheckInput) -> Iterator[LogFinding]:
    items = e.catalog.numbered().select("item", "item_id")
    shown = e.shown.filter(e.shown.day >= e.first)
    events = e.events.filter(e.events.day >= e.first)
    means = "not in items.parquet: counted; neither fresh nor with topics."
    for of, rows in (("exposures", shown), ("engagements", events)):
        rows = rows.filter(rows["item"] >= e.catalog.known).inner_join(items, "item")
        yield _finding(
            f"unknown_items_{of}", f"{of.title()} of unknown items", of, means, rows.select("item_id", "day")
        )
    early = shown.filter(shown.early).inner_join(items, "item").select("item_id", "day")
    means = "shown before their created_at: counted, not as fresh."
    yield _finding("not_yet_created", "Exposures before creation", "exposures", means, early)
    again = e.catalog.repeated
    example = again[0].as_py() if len(again) else None
    means = "again in items.parquet, or without an id: the first row counts."
    yield LogFinding("repeated_items", "Repeated items", len(again), "items", means, example)


def _users(e: CheckInput) -> Iterator[LogFinding]:
    both = e.users.contaminated
    example = None
    if len(both):
        name = both[0].as_py()
        arms = e.asked.filter(e.asked.user_id == name).select("arm").distinct().to_pyarrow()["arm"].to_pylist()
        example = f"{name}: {', '.join(sorted(arms))}"
    means = "served by two arms up to the last of these days: left out of all figures."
    yield LogFinding("contaminated", "Users in two arms", len(both), "users", means, example)
    other = e.users.user_id.filter(pa.array(e.users.misplaced))
    yield _never_served(e)
    means = "served by another arm than salt and weights give them: counted in the arm that served them."
    example = other[0].as_py() if len(other) else None
    yield LogFinding("misplaced", "Users in another arm than theirs", len(other), "users", means, example)


def _never_served(e: CheckInput) -> LogFinding:
    """Users whose answers are lost, or who came without one; the example tells whether one arm has more of them."""
    counts = []
    for number, arm in enumerate(e.place.experiment.arms):
        own = e.users.arm == number
        counts.append(f"{arm.name}: {int((own & ~e.users.served).sum()):,} of {int(own.sum()):,}")
    count = int((~e.users.served).sum())
    means = "engaged, but no answer of an arm to them is in the log: counted in the arm of their bucket."
    return LogFinding("never_served", "Users never served", count, "users", means, "; ".join(counts) if count else None)


def _days(e: CheckInput) -> Iterator[LogFinding]:
    days = [e.first + timedelta(days=n) for n in range((e.last - e.first).days + 1)]
    table = e.asked.group_by("arm", "day").agg(answers=e.asked.count()).to_pyarrow()
    there = set(zip(table["arm"].to_pylist(), table["day"].to_pylist(), strict=True))
    begin = e.place.experiment.first_day
    span = [begin + timedelta(days=n) for n in range((e.last - begin).days + 1)]
    some = [day for day in span if any((arm.name, day) in there for arm in e.place.experiment.arms)]
    gone, holes = [], []
    for arm in e.place.experiment.arms:
        own = [day for day in some if (arm.name, day) in there]
        missing = [day for day in some if day not in own]
        if arm.weight > 0 and missing:
            since = next((day for day in some if day > max(own, default=date.min)), None)
            if since is not None:
                gone.append(f"{arm.name}: no answers since {since}" if own else f"{arm.name}: no answers at all")
            holes += [f"{arm.name} on {day}" for day in missing if since is None or day < since]
    means = "answers nobody from some day on, while others do: comparisons end there."
    yield LogFinding("vanished_arms", "Arms that vanished", len(gone), "arms", means, "; ".join(gone) or None)
    means = "without an answer of the arm between days that have some: its figures of these days are empty."
    yield LogFinding("missing_arm_days", "Days without an arm", len(holes), "days", means, holes[0] if holes else None)
    empty = [day for day in days if day not in some]
    means = "no answer of any arm: all figures of these days are empty."
    yield LogFinding(
        "empty_days", "Days without exposures", len(empty), "days", means, str(empty[0]) if empty else None
    )
    active = set(e.events.select("day").distinct().to_pyarrow()["day"].to_pylist())
    quiet = [day for day in days if day not in active]
    means = "no engagement of anybody: is the log of engagements connected?"
    yield LogFinding(
        "quiet_days", "Days without engagements", len(quiet), "days", means, str(quiet[0]) if quiet else None
    )


def _past(e: CheckInput) -> Iterator[LogFinding]:
    first = e.history.day.min().as_scalar().to_pyarrow().as_py()
    begin = e.place.experiment.first_day
    have = (begin - first).days if first is not None else 0
    short = max(DEFINITIONS.novel_days - have, 0)
    means = f"history.parquet has not all {DEFINITIONS.novel_days} days before the log: some interests only look novel."
    yield LogFinding(
        "short_history", "Days missing from the history", short, "days", means, str(first) if short and first else None
    )


_CHECKS: tuple[Check, ...] = (
    _rejected,
    _clocks,
    _late,
    _answers,
    _deviations,
    _duplicates,
    _beyond_a_day,
    _order,
    _items,
    _users,
    _days,
    _past,
)


def _finding(name: str, title: str, of: str, means: str, bad: ir.Table, weight: str | None = None) -> LogFinding:
    """How many rows `bad` has, or what its column `weight` sums up to, and the first of them."""
    total = bad[weight].sum() if weight else bad.count()
    count = int(total.to_pyarrow().as_py() or 0)
    example = None
    if count:
        rows = bad.drop(weight) if weight else bad
        row = rows.order_by(rows.columns).limit(1).to_pyarrow().to_pylist()[0]
        example = ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)
    return LogFinding(name, title, count, of, means, example)
