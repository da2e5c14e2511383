"""What was wrong in a log: each kind of bad row counted, with an example and what became of it."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import ibis
import pyarrow.parquet as pq

from mtmh.experiment import relations
from mtmh.experiment.arm_checks import check_answers, check_days, check_deviations, check_users
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.findings import CheckInput, LogFinding, count_rows
from mtmh.exposures.compact import TABLES, committed

Check = Callable[[CheckInput], Iterator[LogFinding]]


def run_checks(data: CheckInput) -> tuple[LogFinding, ...]:
    """Every check's findings, counts of 0 included, always in the same order."""
    return tuple(finding for check in _CHECKS for finding in check(data))


def check_rejected(data: CheckInput) -> Iterator[LogFinding]:
    rows = data.log.rejected
    example = None
    if rows.num_rows:
        row = rows.slice(0, 1).to_pylist()[0]
        content = row["content"][:80].decode(errors="replace")
        example = f"{row['segment']} at byte {row['start']}: {row['reason']}: {content}"
    means = "of the whole log: no valid record, so not in any figure; kept in tables/rejected."
    yield LogFinding("rejected", "Malformed records", rows.num_rows, "records", means, example)


def check_clocks(data: CheckInput) -> Iterator[LogFinding]:
    experiment = data.folder.experiment
    latest = ibis.literal(data.now + relations.SKEW)
    for of in TABLES:
        rows = getattr(data.log, of)
        rows = rows.select("timestamp", "request_id", "user_id", "item_id", "day")
        means = "outside the days of the experiment: not counted."
        early = rows.filter(rows.day < experiment.first_day)
        yield count_rows(f"{of}_before", f"{of.title()} before the first day", of, means, early)
        late = (rows.day > experiment.last_day) | (rows.timestamp > latest)
        means = "after the last day, or later than it is now: a wrong clock; not counted."
        title = f"{of.title()} from the future"
        yield count_rows(f"{of}_after", title, of, means, rows.filter(late))


def check_late(data: CheckInput) -> Iterator[LogFinding]:
    """Rows of a day that came in a batch after one that had rows of the day after the next."""
    tables, experiment = data.folder.tables, data.folder.experiment
    batches = committed(tables).batches
    for of in TABLES:
        files: dict[str, list[tuple[date, Path]]] = {}
        for path in (tables / of).glob("day=*/*.parquet"):
            if path.stem in batches:
                day = date.fromisoformat(path.parent.name.removeprefix("day="))
                files.setdefault(path.stem, []).append((day, path))
        # A batch is late for the days that an earlier batch is more than a day past.
        late: list[tuple[date, Path]] = []
        newest = experiment.first_day
        for batch in sorted(files):  # a batch's name begins with the time at which it was written
            late += [(day, path) for day, path in files[batch] if day < newest - timedelta(days=1)]
            days = [day for day, _ in files[batch] if day <= experiment.last_day]
            newest = max([newest, *days])
        late = sorted((day, path) for day, path in late if data.first <= day <= data.last)
        count = sum(pq.read_metadata(path).num_rows for _, path in late)
        example = f"{late[0][1].relative_to(data.folder.folder)}" if late else None
        means = (
            "came after rows of a day at least two days later: counted in their day, whose figures "
            "have changed."
        )
        yield LogFinding(f"late_{of}", f"Late {of}", count, of, means, example)


def check_duplicates(data: CheckInput) -> Iterator[LogFinding]:
    items = data.catalog.numbered().select("item", "item_id")
    lists = data.lists.select("list", "exposure_id", "day")
    rows = data.repeats.inner_join(lists, "list").inner_join(items, "item")
    # Lists begin a day early; what is wrong on that day is no finding about these days.
    rows = rows.filter(rows.day >= data.first)
    # One of the rows counts, so the duplicates are one less.
    rows = rows.select("exposure_id", "item_id", "rows", more=rows.rows - 1)
    means = "the same item again in the same answer: counted once."
    name, title = "duplicate_exposures", "Duplicate exposures"
    yield count_rows(name, title, "exposures", means, rows, weight="more")
    # Events hold each engagement once, with the number of its copies.
    rows = data.events.filter(data.events.day >= data.first, data.events.copies > 1)
    rows = rows.inner_join(items, "item")
    rows = rows.select(
        "request_id", "item_id", "event", "timestamp", "copies", more=rows.copies - 1
    )
    means = (
        "sent again, by event_id, by a call that came again, or by user, item, event and "
        "microsecond: counted once."
    )
    name, title = "duplicate_engagements", "Duplicate engagements"
    yield count_rows(name, title, "engagements", means, rows, weight="more")


def check_beyond_a_day(data: CheckInput) -> Iterator[LogFinding]:
    """Dwell and values that nobody can have: of one engagement, and of a user on one day."""
    # From the log as it is: the events have no such rows any more.
    rows = data.log.engagements.filter(data.log.engagements.day.between(data.first, data.last))
    rows = rows.select("user_id", "item_id", "day", "timestamp", "value", "dwell_seconds")
    impossible = rows.filter(~relations.possible(rows))
    longest, largest = DEFINITIONS.longest_dwell_seconds, DEFINITIONS.largest_value
    means = (
        f"dwell below 0 or above {longest:,.0f} s, or a value beyond {largest:,.0f}: not counted."
    )
    name, title = "impossible_engagements", "Impossible engagements"
    yield count_rows(name, title, "engagements", means, impossible)
    # Each engagement may be possible, and all of a user's day together still too long.
    capped = relations.capped(data.events.filter(data.events.day >= data.first))
    capped = capped.inner_join(data.users.numbered(), "user")
    cut = (capped.seconds - longest).sum().to_pyarrow().as_py() or 0.0
    means = (
        f"more dwell than a day has: counted as {longest:,.0f} s each, {cut:,.0f} s less in all."
    )
    rows = capped.select("user_id", "day", "seconds")
    yield count_rows("capped_days", "Days with too much dwell", "user days", means, rows)


def check_order(data: CheckInput) -> Iterator[LogFinding]:
    """Engagements that name an answer, by when and whether they go back to an impression of it."""
    items = data.catalog.numbered().select("item", "item_id")
    recent = data.events.filter(data.events.day >= data.first)
    # Engagements that name no answer need none; answers with an alpha of their own are left out.
    named = recent.mutate(answer=recent.exposure_id.coalesce(recent.request_id))
    own_alpha = data.own_alpha.select(answer="exposure_id")
    own_alpha = own_alpha.union(data.own_alpha.select(answer="request_id"))
    named = named.filter(ibis._.answer.notnull()).anti_join(own_alpha, "answer")
    events = named.inner_join(items, "item").select("event_id", "answer", "item_id", "timestamp")
    matched = events.inner_join(data.attributed.select("event_id", "answered"), "event_id")
    minutes = int(relations.SKEW.total_seconds()) // 60
    means = f"counted; those more than {minutes} minutes before it go back to no impression."
    early = matched.filter(matched.timestamp < matched.answered).drop("event_id")
    title = "Engagements before their exposure"
    yield count_rows("out_of_order", title, "engagements", means, early)

    # Without an impression: of an answer before the days that are read, it is only late.
    lost = events.anti_join(data.attributed, "event_id")
    answers = data.requests.select("timestamp", "day", answer="exposure_id")
    answers = answers.union(data.requests.select("timestamp", "day", answer="request_id"))
    answers = answers.group_by("answer").agg(
        answered=ibis._.timestamp.min(), answer_day=ibis._.day.min()
    )
    lost = lost.left_join(answers, "answer").select(*events.columns, "answered", "answer_day")
    eve = data.folder.experiment.eve_of(data.first)
    is_old = (lost.answer_day < eve).fill_null(False)
    hours = ibis.interval(seconds=int(relations.WINDOW.total_seconds()))
    late = matched.filter(matched.timestamp > matched.answered + hours)
    late = late.union(lost.filter(is_old).select(*late.columns)).drop("event_id")
    hours_after = DEFINITIONS.attribution_hours
    means = f"counted; more than {hours_after} h after it, they go back to no impression."
    title = "Engagements long after their exposure"
    yield count_rows("late_engagement_of_exposure", title, "engagements", means, late)
    means = (
        "name an answer that is not in the log, or not to this user, or without the item: counted, "
        "but go back to none."
    )
    lost = lost.filter(~is_old).drop("event_id", "answer_day")
    title = "Engagements without their exposure"
    yield count_rows("unattributed", title, "engagements", means, lost)


def check_items(data: CheckInput) -> Iterator[LogFinding]:
    items = data.catalog.numbered().select("item", "item_id")
    # Both tables begin earlier than the days that are looked at.
    impressions = data.impressions.filter(data.impressions.day >= data.first)
    events = data.events.filter(data.events.day >= data.first)
    means = "not in items.parquet: counted; neither fresh nor with topics."
    for of, rows in (("exposures", impressions), ("engagements", events)):
        # Items that only the log has are numbered behind those of the table.
        rows = rows.filter(rows["item"] >= data.catalog.from_table).inner_join(items, "item")
        rows = rows.select("item_id", "day")
        yield count_rows(f"unknown_items_{of}", f"{of.title()} of unknown items", of, means, rows)
    early = impressions.filter(impressions.early).inner_join(items, "item").select("item_id", "day")
    means = "shown before their created_at: counted, not as fresh."
    yield count_rows("not_yet_created", "Exposures before creation", "exposures", means, early)
    again = data.catalog.repeated
    example = again[0].as_py() if len(again) else None
    means = "again in items.parquet, or without an id: the first row counts."
    yield LogFinding("repeated_items", "Repeated items", len(again), "items", means, example)


def check_past(data: CheckInput) -> Iterator[LogFinding]:
    first = data.history.day.min().as_scalar().to_pyarrow().as_py()
    days = (data.folder.experiment.first_day - first).days if first is not None else 0
    short = max(DEFINITIONS.novel_days - days, 0)
    means = (
        f"history.parquet has not all {DEFINITIONS.novel_days} days before the log: some interests "
        "only look novel."
    )
    example = str(first) if short and first else None
    title = "Days missing from the history"
    yield LogFinding("short_history", title, short, "days", means, example)


_CHECKS: tuple[Check, ...] = (
    check_rejected,
    check_clocks,
    check_late,
    check_answers,
    check_deviations,
    check_duplicates,
    check_beyond_a_day,
    check_order,
    check_items,
    check_users,
    check_days,
    check_past,
)
