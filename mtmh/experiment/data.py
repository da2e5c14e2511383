"""The data of a place: its log cleaned, in numbers, and joined with items and users; and what was wrong in it.

    found = experiment_data(open_experiment(Path("runs/watched")))
    daily(found)                  # mtmh/experiment/metrics.py: every metric, an arm and day
    user_days(found)              # mtmh/experiment/units.py: what the statistics are made of
    found.findings                # mtmh/experiment/checks.py: bad rows, each kind counted, with an example

Bad rows cost no crash, and none goes in silence.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.sql import SQLBackend

from mtmh.errors import UserError
from mtmh.experiment import relations
from mtmh.experiment.catalog import ItemTable, UserTable, assign_users, read_item_table
from mtmh.experiment.checks import CheckInput, LogFinding, find
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.folder import Experiment, ExperimentFolder
from mtmh.exposures.read import LogRelations

DAY = timedelta(days=1)


@dataclass(frozen=True)
class ExperimentData:
    """Relations of one DuckDB in this process. `user` and `item` are numbers: rows of `users` and `catalog`.

    Users whom two arms served are in none of the relations.
    """

    experiment: Experiment
    first: date  # the days that are looked at, both included
    last: date
    users: UserTable
    catalog: ItemTable
    shown: ir.Table  # one row a candidate shown on these days: relations.shown
    lists: ir.Table  # one row an answer on these days: relations.lists
    answered: ir.Table  # exposure_id, user_id, arm, degraded, own_alpha: one row an answer on these days
    matched: ir.Table  # item, trigger of what was shown and shares an L2 topic
    events: ir.Table  # one row an engagement on these days: relations.in_time
    engaged: ir.Table  # user, day: one row an impression, the day of its first positive engagement being one of these
    history: ir.Table  # user, item, day: positive engagements up to the last of these days, and before the log begins
    interests: ir.Table  # user, topic: the top topics before the log begins
    findings: tuple[LogFinding, ...]

    @property
    def days(self) -> list[date]:
        """The days that are looked at."""
        return [self.first + DAY * n for n in range((self.last - self.first).days + 1)]

    @property
    def impressions(self) -> ir.Table:
        """`shown` for readers: arm, day, user_id, item_id, exposure_id, request_id (the caller's), position, and the
        flags of relations.shown."""
        named = self.lists.select("list", "exposure_id", "request_id")
        rows = self.shown.drop("trigger").inner_join(named, "list")
        return self._named(rows.drop("list"))

    @property
    def engagements(self) -> ir.Table:
        """`events` for readers: arm, day, user_id, item_id, timestamp, event, value, dwell_seconds, relevance."""
        return self._named(self.events.drop("event_id", "list", "copies"))

    def _named(self, rows: ir.Table) -> ir.Table:
        items = self.catalog.numbered().select("item", "item_id")
        users = self.users.numbered().select("user", "user_id", number="arm")
        rows = rows.inner_join(users, "user").inner_join(items, "item").inner_join(self.arms, "number")
        return rows.drop("user", "item", "number").relocate("arm", "day", "user_id", "item_id")

    @property
    def arms(self) -> ir.Table:
        """number, arm: the names of the arms."""
        names = [arm.name for arm in self.experiment.arms]
        return ibis.memtable(pa.table({"number": pa.array(range(len(names)), pa.int32()), "arm": names}))


def experiment_data(
    place: ExperimentFolder, first: date | None = None, last: date | None = None, now: datetime | None = None
) -> ExperimentData:
    """Read what happened at `place` from day `first` to day `last`, both included; by default, the whole experiment.

    What is later than `now` (by default this moment; no limit where users are simulated) comes from a wrong clock.
    A single day costs less than all of them, and gives the same figures for it, now or when the experiment is over: a
    day's users are those seen by its end. Only what the log itself changes about a day changes them: rows that come
    late, and users who turn out later to be in two arms, who are left out of all days. Raises UserError when the days
    lie outside the experiment.
    """
    experiment = place.experiment
    if now is None:
        now = datetime.max.replace(tzinfo=UTC) - DAY if experiment.simulated else datetime.now(UTC)
    start = experiment.first_day
    first, last = _span(place, first, last, now)
    log = place.logged()
    keep = partial(_keep, log.exposures.get_backend())
    exposures, engagements = _in_days(log, start, last, now)
    before = _history(place, log.exposures, start)
    asked = keep(relations.requests(exposures))
    sound = asked.filter(
        asked.user_id == asked.other_user,
        asked.arm == asked.other_arm,
        asked.arm.isin([arm.name for arm in experiment.arms]),
    )
    people, catalog = _people(experiment, sound, engagements), _catalog(place, exposures, engagements)
    users, items, topics = people.numbered(), catalog.numbered(), catalog.topics()
    # What happened, from the day before the first on: an engagement may go back to an impression of the day before.
    eve = max(start, first - DAY)
    own_alpha = keep(relations.with_own_alpha(sound, experiment.arms))
    of_arms = sound.anti_join(own_alpha, "exposure_id")
    lists = keep(relations.lists(of_arms.filter(of_arms.day >= eve), users))
    touched = relations.first_engagements(engagements.select("item_id", "day").union(before.select("item_id", "day")))
    shown = keep(relations.shown(exposures.filter(exposures.day >= eve), lists, items, touched))
    repeats = keep(relations.repeats(shown))
    if repeats.count().execute():
        shown = keep(relations.without_repeats(shown, repeats))
    events = keep(relations.events(engagements, users, items))
    recent = events.filter(events.day >= eve)
    found = keep(relations.attributed(recent, lists, shown))
    placed = keep(relations.in_time(recent, found))
    past = _liked(before.inner_join(users, "user_id").inner_join(items, "item_id"))
    evidence = CheckInput(
        place, log, now, first, last, people, catalog, before, asked, own_alpha, lists, shown, repeats, recent, found
    )
    return ExperimentData(
        experiment,
        first,
        last,
        people,
        catalog,
        shown=shown.filter(shown.day >= first),
        lists=lists.filter(lists.day >= first),
        answered=_answered(sound.filter(sound.day >= first), own_alpha),
        matched=keep(relations.matches(shown, topics)),
        events=placed.filter(placed.day >= first),
        engaged=keep(relations.engaged(placed).filter(ibis._.day >= first)),
        history=past.union(_liked(events)),
        interests=keep(relations.top_interests(past, topics, DEFINITIONS.interests)),
        findings=find(evidence),
    )


def _span(place: ExperimentFolder, first: date | None, last: date | None, now: datetime) -> tuple[date, date]:
    """The days that are looked at."""
    experiment = place.experiment
    start, end = experiment.first_day, min(experiment.last_day, now.date())
    first, last = first or start, last or max(end, start)
    if not start <= first <= last <= experiment.last_day:
        raise UserError(
            f"{place.folder}: the days {first} to {last} are not days of the experiment, which runs from {start} to "
            f"{experiment.last_day}."
        )
    return first, last


def _in_days(log: LogRelations, start: date, last: date, now: datetime) -> tuple[ir.Table, ir.Table]:
    """The log's exposures, identified, and its possible engagements, of these days and not of a clock that is ahead."""
    late_clock = ibis.literal(now + relations.SKEW)
    exposures, engagements = (
        table.filter(table.day.between(start, last), table.timestamp <= late_clock)
        for table in (log.exposures, log.engagements.filter(relations.possible(log.engagements)))
    )
    return relations.identified(exposures), engagements


def _people(experiment: Experiment, sound: ir.Table, engagements: ir.Table) -> UserTable:
    """Who was served (`sound` requests), and who only engaged."""
    served = sound.group_by("user_id").agg(arm=sound.arm.min(), other_arm=sound.arm.max(), answered=sound.day.min())
    engaged = engagements.group_by("user_id").agg(seen=engagements.day.min())
    first = served.left_join(engaged, "user_id").select(*served.columns, "seen")
    first = first.mutate(seen=ibis.least(first.answered, first.seen.fill_null(first.answered)))
    others = engaged.anti_join(sound, "user_id")
    return assign_users(first.to_pyarrow(), others.to_pyarrow(), experiment.salt, experiment.arms)


def _answered(sound: ir.Table, own_alpha: ir.Table) -> ir.Table:
    """`ExperimentData.answered`, of the `sound` requests."""
    rows = sound.left_join(own_alpha.select("exposure_id", own_alpha=True), "exposure_id")
    return rows.select("exposure_id", "user_id", "arm", "degraded", own_alpha=rows.own_alpha.fill_null(False))


def _catalog(place: ExperimentFolder, exposures: ir.Table, engagements: ir.Table) -> ItemTable:
    """The items of the place, and those that only the log knows."""
    catalog = read_item_table(place.items)
    ids = exposures.select("item_id", "day").union(engagements.select("item_id", "day"))
    unknown = ids.anti_join(catalog.numbered(), "item_id").group_by("item_id").agg(day=ibis._.day.min())
    named = unknown.order_by("item_id").to_pyarrow()
    return catalog.with_unknown(named["item_id"].combine_chunks(), named["day"].to_numpy().astype("datetime64[us]"))


def _liked(events: ir.Table) -> ir.Table:
    """user, item, day of those with a positive value."""
    return events.filter(events["value"] > 0).select("user", "item", "day")


def _keep(backend: SQLBackend, rows: ir.Table) -> ir.Table:
    """Compute once what several expressions read."""
    return backend.create_table(ibis.util.gen_name("facts"), rows, temp=True)


def _history(place: ExperimentFolder, log: ir.Table, start: date) -> ir.Table:
    """item_id, user_id, day, value of the engagements before the log begins."""
    rows = log.get_backend().read_parquet(place.history)
    value = rows["value"].cast("float64").fill_null(1.0) if "value" in rows.columns else ibis.literal(1.0)
    at = rows.timestamp.cast("timestamp('UTC')")
    begin = datetime.combine(start, time(), UTC)
    kept = rows.select("user_id", "item_id", day=at.date(), at=at, value=value)
    return kept.filter(kept.at < ibis.literal(begin)).drop("at")
