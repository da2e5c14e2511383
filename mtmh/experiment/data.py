"""The data of an experiment: its log cleaned, in numbers, joined with items and users; and its
faults.

    data = experiment_data(open_experiment(Path("runs/watched")))
    daily(data)        # mtmh/experiment/metrics.py: every metric, an arm and day
    user_days(data)    # mtmh/experiment/units.py: what the statistics are made of
    data.findings      # mtmh/experiment/checks.py: bad rows, each kind counted, with an example

Bad rows cost no crash, and none is dropped without being counted.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from mtmh.experiment import relations
from mtmh.experiment.catalog import ItemTable, UserTable, assign_users, read_item_table
from mtmh.experiment.checks import run_checks
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.experiment.findings import CheckInput, LogFinding
from mtmh.experiment.folder import Experiment, ExperimentFolder
from mtmh.exposures.read import LogRelations

DAY = timedelta(days=1)


@dataclass(frozen=True)
class ExperimentData:
    """Relations of one DuckDB in this process. `user` and `item` are rows of `users` and `catalog`.

    Users whom two arms served are in none of the relations.
    """

    experiment: Experiment
    first: date  # the days that are looked at, both included
    last: date
    users: UserTable
    catalog: ItemTable
    impressions: ir.Table  # one row a candidate shown on these days: relations.impressions
    lists: ir.Table  # one row an answer on these days: relations.lists
    answered: ir.Table  # of these days: exposure_id, user_id, arm, degraded, own_alpha
    matched: ir.Table  # item, trigger of impressions where both share an L2 topic
    events: ir.Table  # one row an engagement on these days: relations.in_time
    # User, day of each impression whose first positive engagement is in these days.
    engaged: ir.Table
    history: ir.Table  # user, item, day: positive engagements, also of before the log, up to `last`
    interests: ir.Table  # user, topic: the top topics before the log begins
    findings: tuple[LogFinding, ...]

    @property
    def days(self) -> list[date]:
        """The days that are looked at."""
        return [self.first + DAY * n for n in range((self.last - self.first).days + 1)]

    @property
    def named_impressions(self) -> ir.Table:
        """`impressions` for readers: arm, day, user_id, item_id, exposure_id, request_id (the
        caller's), position, channel, relevance (of that channel), and the flags of
        relations.impressions."""
        named = self.lists.select("list", "exposure_id", "request_id")
        rows = self.impressions.drop("trigger").inner_join(named, "list")
        return self._named(rows.drop("list"))

    @property
    def named_engagements(self) -> ir.Table:
        """`events` for readers: arm, day, user_id, item_id, timestamp, event, value, dwell_seconds,
        channel, relevance."""
        return self._named(self.events.drop("event_id", "list", "copies"))

    def _named(self, rows: ir.Table) -> ir.Table:
        items = self.catalog.numbered().select("item", "item_id")
        users = self.named_users.select("user", "user_id", "arm")
        rows = rows.inner_join(users, "user").inner_join(items, "item")
        rows = rows.mutate(relevance=rows.channel == "relevance")
        return rows.drop("user", "item").relocate("arm", "day", "user_id", "item_id")

    @property
    def named_users(self) -> ir.Table:
        """user, user_id, bucket, arm (its name), of those who are in one arm."""
        users = self.users.numbered().select("user", "user_id", "bucket", number="arm")
        return users.inner_join(self.arms, "number").drop("number")

    @property
    def arms(self) -> ir.Table:
        """number, arm: the names of the arms."""
        names = [arm.name for arm in self.experiment.arms]
        return ibis.memtable(
            pa.table({"number": pa.array(range(len(names)), pa.int32()), "arm": names})
        )


def experiment_data(
    folder: ExperimentFolder,
    first: date | None = None,
    last: date | None = None,
    now: datetime | None = None,
) -> ExperimentData:
    """Read what happened in an experiment from day `first` to day `last`, both included.

    Without days, the whole experiment. What is later than `now` (by default this moment; no limit
    where users are simulated) comes from a wrong clock. A single day costs less than all of them,
    and gives the same figures for it, now or when the experiment is over: a day's users are those
    seen by its end. Only what the log itself changes about a day changes them: rows that come late,
    and users who turn out later to be in two arms, who are left out of all days. Raises UserError
    when the days lie outside the experiment.
    """
    experiment = folder.experiment
    if now is None:
        simulated_now = datetime.max.replace(tzinfo=UTC) - DAY
        now = simulated_now if experiment.simulated else datetime.now(UTC)
    first, last = folder.span(first, last, now)
    clean = _clean(folder, first, last, now)
    events, impressions = clean.events, clean.impressions
    users, items, topics = clean.users.numbered(), clean.catalog.numbered(), clean.catalog.topics()
    # Engagements with the impression that they go back to, where it is in time.
    recent = events.filter(events.day >= experiment.eve_of(first))
    placed = _materialize(clean.log, relations.in_time(recent, clean.attributed))
    past = _positive(clean.history.inner_join(users, "user_id").inner_join(items, "item_id"))
    # Degraded answers and such with an alpha of their own, for the deviations.
    answered = _sound(clean.requests, experiment).filter(ibis._.day >= first)
    own_alpha = clean.own_alpha.select("exposure_id", own_alpha=True)
    answered = answered.left_join(own_alpha, "exposure_id")
    answered = answered.mutate(own_alpha=answered.own_alpha.fill_null(False))
    engaged = relations.engaged(placed).filter(ibis._.day >= first)
    interests = relations.top_interests(past, topics, DEFINITIONS.interests)
    return ExperimentData(
        experiment,
        first,
        last,
        clean.users,
        clean.catalog,
        impressions=impressions.filter(impressions.day >= first),
        lists=clean.lists.filter(clean.lists.day >= first),
        answered=answered.select("exposure_id", "user_id", "arm", "degraded", "own_alpha"),
        matched=_materialize(clean.log, relations.matches(impressions, topics)),
        events=placed.filter(placed.day >= first),
        engaged=_materialize(clean.log, engaged),
        history=past.union(_positive(events)),
        interests=_materialize(clean.log, interests),
        findings=run_checks(clean),
    )


def _clean(folder: ExperimentFolder, first: date, last: date, now: datetime) -> CheckInput:
    """The log in numbers, without what belongs to nobody or cannot be; each engagement once.

    From the day before `first` on: an engagement may go back to an impression of that day.
    """
    experiment = folder.experiment
    log = folder.logged()
    eve = experiment.eve_of(first)
    exposures, engagements, history = _logged(folder, log, last, now)

    # Who was served, and what there is to show.
    requests = _materialize(log, relations.requests(exposures))
    sound = _sound(requests, experiment)
    user_table, catalog = _numbered(folder, sound, exposures, engagements)
    users, items = user_table.numbered(), catalog.numbered()

    # What was shown: answers with an alpha of the caller's own are left out.
    own_alpha = _materialize(log, relations.with_own_alpha(sound, experiment.arms))
    of_arms = sound.anti_join(own_alpha, "exposure_id")
    lists = _materialize(log, relations.lists(of_arms.filter(of_arms.day >= eve), users))
    days = engagements.select("item_id", "day").union(history.select("item_id", "day"))
    engaged = relations.first_engagements(days)
    exposures = exposures.filter(exposures.day >= eve)
    impressions = _materialize(log, relations.impressions(exposures, lists, items, engaged))
    repeats = _materialize(log, relations.repeats(impressions))
    if repeats.count().execute():
        impressions = _materialize(log, relations.without_repeats(impressions, repeats))

    # What was done, beside the impression that it goes back to.
    events = _materialize(log, relations.events(engagements, users, items))
    recent = events.filter(events.day >= eve)
    return CheckInput(
        folder,
        log,
        now,
        first,
        last,
        user_table,
        catalog,
        history=history,
        requests=requests,
        own_alpha=own_alpha,
        lists=lists,
        impressions=impressions,
        repeats=repeats,
        events=events,
        attributed=_materialize(log, relations.attributed(recent, lists, impressions)),
    )


def _materialize(log: LogRelations, rows: ir.Table) -> ir.Table:
    """Compute once what several expressions read."""
    name = ibis.util.gen_name("facts")
    return log.exposures.get_backend().create_table(name, rows, temp=True)


def _sound(requests: ir.Table, experiment: Experiment) -> ir.Table:
    """The requests of one user and of one of the experiment's arms."""
    return requests.filter(
        requests.user_id == requests.other_user,
        requests.arm == requests.other_arm,
        requests.arm.isin([arm.name for arm in experiment.arms]),
    )


def _logged(
    folder: ExperimentFolder, log: LogRelations, last: date, now: datetime
) -> tuple[ir.Table, ir.Table, ir.Table]:
    """The log's exposures, identified, and its possible engagements, up to the day `last`; and the
    engagements before the log begins: user_id, item_id, day, value.
    """
    start = folder.experiment.first_day
    latest = ibis.literal(now + relations.SKEW)  # rows of a clock that is ahead are left out
    exposures, engagements = (
        table.filter(table.day.between(start, last), table.timestamp <= latest)
        for table in (log.exposures, log.engagements.filter(relations.possible(log.engagements)))
    )
    # The history may lack the values: all positive then.
    rows = log.exposures.get_backend().read_parquet(folder.history)
    value = ibis.literal(1.0)
    if "value" in rows.columns:
        value = rows["value"].cast("float64").fill_null(1.0)
    time_utc = rows.timestamp.cast("timestamp('UTC')")
    rows = rows.select("user_id", "item_id", day=time_utc.date(), time=time_utc, value=value)
    begin = datetime.combine(start, time(), UTC)
    history = rows.filter(rows["time"] < ibis.literal(begin)).drop("time")
    return relations.identified(exposures), engagements, history


def _numbered(
    folder: ExperimentFolder, sound: ir.Table, exposures: ir.Table, engagements: ir.Table
) -> tuple[UserTable, ItemTable]:
    """Who was served (`sound` requests), and who only engaged; the items of the folder's item
    table, and the ones that only the log has.
    """
    served = sound.group_by("user_id").agg(
        arm=sound.arm.min(), other_arm=sound.arm.max(), answered=sound.day.min()
    )
    engaged = engagements.group_by("user_id").agg(seen=engagements.day.min())
    first = served.left_join(engaged, "user_id").select(*served.columns, "seen")
    first = first.mutate(seen=ibis.least(first.answered, first.seen.fill_null(first.answered)))
    others = engaged.anti_join(sound, "user_id")
    salt, arms = folder.experiment.salt, folder.experiment.arms
    users = assign_users(first.to_pyarrow(), others.to_pyarrow(), salt, arms)

    # Each unknown item with the day on which the log first names it.
    catalog = read_item_table(folder.items)
    ids = exposures.select("item_id", "day").union(engagements.select("item_id", "day"))
    unknown = ids.anti_join(catalog.numbered(), "item_id").group_by("item_id")
    named = unknown.agg(day=ibis._.day.min()).order_by("item_id").to_pyarrow()
    days = named["day"].to_numpy().astype("datetime64[us]")
    return users, catalog.with_unknown(named["item_id"].combine_chunks(), days)


def _positive(events: ir.Table) -> ir.Table:
    """user, item, day of the events with a positive value."""
    return events.filter(events["value"] > 0).select("user", "item", "day")
