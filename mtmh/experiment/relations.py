"""From the rows of a log to an experiment's data: each step one relational expression, on numbers
instead of texts.

The expressions are Ibis: DuckDB here, a cluster's engine by the connection. Each function says
which columns its arguments need; `ItemTable` and `UserTable` (mtmh/experiment/catalog.py) give the
tables of items and users.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import ibis
import ibis.expr.types as ir

from mtmh.experiment.arms import Arm
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.head_settings import quotas_text

SKEW = timedelta(minutes=5)  # so much may two machines' clocks differ
RETRY = timedelta(minutes=10)  # so long after it may a call come again
TIMED = ("timestamp", "request_id", "exposure_id")  # what tells engagements apart that have no id
WINDOW = timedelta(hours=DEFINITIONS.attribution_hours)


def identified(exposures: ir.Table) -> ir.Table:
    """The exposures, each with an exposure_id: in log_version 1 the request_id."""
    return exposures.mutate(exposure_id=exposures.exposure_id.coalesce(exposures.request_id))


def requests(exposures: ir.Table) -> ir.Table:
    """One row per exposure_id: day, timestamp, request_id, user_id, arm, degraded, alpha,
    arm_alpha, quotas, arm_quotas.

    Beside user_id and arm (the least of what its rows say) stand other_user and other_arm (the
    greatest): in a sound log they are the same.
    """
    row = exposures
    return exposures.group_by("exposure_id").agg(
        day=row.day.min(),
        timestamp=row.timestamp.min(),
        request_id=row.request_id.min(),
        user_id=row.user_id.min(),
        other_user=row.user_id.max(),
        arm=row.arm.min(),
        other_arm=row.arm.max(),
        degraded=row.degraded.max(),
        alpha=row.alpha.min(),
        arm_alpha=row.arm_alpha.min(),
        quotas=row.quotas.min(),
        arm_quotas=row.arm_quotas.min(),
    )


def with_own_alpha(requests: ir.Table, arms: Sequence[Arm]) -> ir.Table:
    """The requests that were answered with another alpha than their arm's, or other quotas.

    The arm's are what the experiment says; of an arm without any, what the router logged beside the
    answer. An answer has an alpha or quotas: a comparison with what it does not have is null.
    """
    alphas = {arm.name: arm.alpha for arm in arms if arm.alpha is not None}
    quotas = {arm.name: quotas_text(arm.quotas) for arm in arms if arm.quotas is not None}
    other_alpha = requests.alpha != _planned(requests, "alpha", alphas)
    other_quotas = requests.quotas != _planned(requests, "quotas", quotas)
    return requests.filter(other_alpha.fill_null(False) | other_quotas.fill_null(False))


def _planned(requests: ir.Table, name: str, of_arm: Mapping[str, float | str]) -> ir.Value:
    """What the experiment plans for each request's arm, or else the router logged of the arm."""
    logged = requests[f"arm_{name}"]
    return requests.arm.cases(*of_arm.items(), else_=logged) if of_arm else logged


def possible(engagements: ir.Table) -> ir.BooleanValue:
    """Whether value and dwell are within DEFINITIONS: a log that is older than these bounds has
    others.
    """
    value, dwell = engagements["value"], engagements.dwell_seconds
    sound_value = value.between(-DEFINITIONS.largest_value, DEFINITIONS.largest_value)
    sound_dwell = dwell.isnull() | dwell.between(0.0, DEFINITIONS.longest_dwell_seconds)
    return sound_value & sound_dwell


def capped(events: ir.Table) -> ir.Table:
    """user, day, seconds of those who dwelt longer on a day than a day is."""
    days = events.group_by("user", "day").agg(seconds=events.dwell_seconds.sum())
    return days.filter(days.seconds > DEFINITIONS.longest_dwell_seconds)


def lists(sound: ir.Table, users: ir.Table) -> ir.Table:
    """Of the requests of users in one arm: exposure_id, request_id, list, user, day, timestamp.

    `list` is the number of the answer.
    """
    of_users = sound.inner_join(users.select("user_id", "user"), "user_id")
    number = ibis.row_number().over(order_by=of_users.exposure_id)
    return of_users.select("exposure_id", "request_id", "user", "day", "timestamp", list=number)


def impressions(
    exposures: ir.Table, lists: ir.Table, items: ir.Table, engaged: ir.Table
) -> ir.Table:
    """One row a candidate shown: list, user, day, item, trigger, position, channel, and flags.

    trigger: null where there is none or the log's one is in no table. Flags: fresh, cold, early
    (shown before the item was there), judged (item and trigger have topics).
    `engaged` has the day of each item's first engagement by anybody: item_id, engaged_day.
    """
    of_list = lists.select("exposure_id", "list", "user", "day", "timestamp")
    # An item that nobody engaged with stays, without a day.
    items = items.left_join(engaged, "item_id").select(*items.columns, "engaged_day")
    # A trigger is an item too: the same table again, under other names.
    triggers = items.select(trigger_id="item_id", trigger="item", trigger_topics="topics")
    rows = exposures.select("exposure_id", "item_id", "trigger_id", "head", "position")
    rows = rows.inner_join(of_list, "exposure_id").inner_join(items, "item_id")
    # A row counts without a trigger too, or with one that is in no table.
    rows = rows.left_join(triggers, "trigger_id")
    # An item without a creation time is not fresh, and not early either.
    created_before = (rows.created <= rows.timestamp).fill_null(False)
    still_fresh = (rows.timestamp < rows.fresh_until).fill_null(False)
    return rows.select(
        "list",
        "user",
        "day",
        "item",
        "trigger",
        "position",
        channel=rows["head"],
        fresh=created_before & still_fresh,
        early=(rows.created > rows.timestamp).fill_null(False),
        cold=rows.engaged_day.isnull() | (rows.engaged_day >= rows.day),
        judged=(rows.topics > 0) & (rows.trigger_topics > 0).fill_null(False),
    )


def repeats(impressions: ir.Table) -> ir.Table:
    """list, item and rows of what stands more than once in its list: a record that was logged
    again.
    """
    counts = impressions.group_by("list", "item").agg(rows=impressions.count())
    return counts.filter(counts.rows > 1)


def without_repeats(impressions: ir.Table, repeats: ir.Table) -> ir.Table:
    """Of each item of a list, the first row."""
    keys = ["list", "item"]
    again = impressions.semi_join(repeats, keys)
    order = ibis.window(group_by=keys, order_by=["position", "trigger", "channel"])
    again = again.mutate(copy=ibis.row_number().over(order))
    return impressions.anti_join(repeats, keys).union(
        again.filter(again.copy == 0).select(*impressions.columns)
    )


def matches(impressions: ir.Table, topics: ir.Table) -> ir.Table:
    """item and trigger of what was shown and shares a topic, each pair once."""
    pairs = impressions.filter(impressions.judged).select("item", "trigger").distinct()
    of_item = pairs.inner_join(topics.select("item", "topic"), "item")
    # A semi-join: of three tables joined, an engine may take the two of topics first, all items of
    # a topic by all.
    shared = of_item.semi_join(topics.select(trigger="item", topic="topic"), ["trigger", "topic"])
    return shared.select("item", "trigger").distinct()


def once(engagements: ir.Table) -> ir.Table:
    """Each engagement once, in its columns, and copies: how often it was sent. The first time
    counts.

    An engagement is recognised by its event_id; without one, by the call that brought it when that
    came again within `RETRY` (a tracing id may be constant for days); without a call, by its time.
    User, item and event are the same.
    """
    thing = ["user_id", "item_id", "event"]
    called = engagements.filter(engagements.event_id.isnull(), engagements.call_id.notnull())
    rest = engagements.filter(engagements.event_id.notnull() | engagements.call_id.isnull())
    # A call that came again is the same attempt until a gap longer than RETRY.
    by_time = ibis.window(group_by=[*thing, "call_id"], order_by="timestamp")
    before = called.timestamp.lag().over(by_time)
    retry = ibis.interval(seconds=RETRY.seconds)
    called = called.mutate(new=before.isnull() | (called.timestamp > before + retry))
    attempts = ibis.window(group_by=[*thing, "call_id"], order_by="timestamp", following=0)
    called = called.mutate(attempt=called.new.cast("int64").sum().over(attempts)).drop("new")
    # What tells two engagements apart, by what they have.
    row = called.union(rest.mutate(attempt=ibis.literal(0, "int64")))
    timed = row.event_id.isnull() & row.call_id.isnull()
    keys = {name: row[name] for name in (*thing, "event_id", "attempt")}
    keys |= {"call": ibis.cases((row.event_id.isnull(), row.call_id))}
    keys |= {f"own_{name}": ibis.cases((timed, row[name])) for name in TIMED}
    names = ("request_id", "exposure_id", "timestamp", "day", "call_id")
    first = row.group_by(**keys).agg(
        **{name: row[name].min() for name in names},
        value=row["value"].max(),
        dwell_seconds=row.dwell_seconds.max(),
        log_version=row.log_version.max(),
        copies=row.count(),
    )
    return first.select(*engagements.columns, "copies")


def events(engagements: ir.Table, users: ir.Table, items: ir.Table) -> ir.Table:
    """One row an engagement, each `once`, in numbers.

    event_id (its number), exposure_id, request_id, user, item, event, day, timestamp, value,
    dwell_seconds, copies (how often it stands in the log).
    """
    # Once what was sent again is out, the log's own ids have served: numbers take their place.
    coded = once(engagements).drop("event_id", "call_id", "log_version")
    # Users in two arms have no number, and so leave with this.
    coded = coded.inner_join(users.select("user_id", "user"), "user_id")
    coded = coded.inner_join(items.select("item_id", "item"), "item_id")
    keys = ["request_id", "exposure_id", "user_id", "item_id", "event", "timestamp", "day", "value"]
    # Numbered by what the rows say: an engine finds them in any order.
    number = ibis.row_number().over(order_by=[coded[key] for key in keys])
    return coded.select(
        "exposure_id",
        "request_id",
        "user",
        "item",
        "event",
        "day",
        "timestamp",
        "value",
        "dwell_seconds",
        "copies",
        event_id=number,
    )


def attributed(events: ir.Table, lists: ir.Table, impressions: ir.Table) -> ir.Table:
    """The impression that each event goes back to: event_id, list, channel, answered (its time).

    It is an impression of the item to the user: of the exposure that the event names, in
    exposure_id or in request_id; else of the only answer with its request_id that showed the item.
    Where the event names nothing, or several such answers, it is the last impression before it.
    Time matters here only for this last rule: see `in_time`.
    """
    names = lists.select(
        "list", answered="timestamp", of_exposure="exposure_id", of_request="request_id"
    )
    candidates = impressions.select("list", "user", "item", "channel").inner_join(names, "list")
    row = events.select("event_id", "exposure_id", "request_id", "user", "item", "timestamp")
    row = row.inner_join(candidates, ["user", "item"])
    # Which of the user's impressions of the item does the event name, exactly or by a trace?
    named = (row.exposure_id == row.of_exposure) | (row.request_id == row.of_exposure)
    traced = row.request_id == row.of_request
    row = row.mutate(named=named.fill_null(False), traced=traced.fill_null(False))
    of_event = ibis.window(group_by="event_id")
    traces = row.traced.cast("int64").sum().over(of_event)
    row = row.mutate(exact=row.named.any().over(of_event), traces=traces)
    nameless = row.exposure_id.isnull() & row.request_id.isnull()
    by_trace = ~row.exact & row.traced & (row.traces == 1)
    by_time = ~row.exact & (nameless | (row.traces > 1)) & (row.answered <= row.timestamp)
    row = row.filter(row.named | by_trace | by_time)
    # Of several, a named one, then the latest.
    order = [row.named.desc(), row.answered.desc(), row["list"].desc()]
    latest = ibis.window(group_by="event_id", order_by=order)
    row = row.mutate(copy=ibis.row_number().over(latest))
    return row.filter(row.copy == 0).select("event_id", "list", "channel", "answered")


def in_time(events: ir.Table, attributed: ir.Table) -> ir.Table:
    """The events with list and channel of their impression, null where there is none in time.

    An engagement counts for an impression from `SKEW` before it (two machines' clocks) to the
    attribution window after.
    """
    timed = attributed.inner_join(events.select("event_id", "timestamp"), "event_id")
    near = timed.filter(
        timed.timestamp >= timed.answered - ibis.interval(seconds=int(SKEW.total_seconds())),
        timed.timestamp <= timed.answered + ibis.interval(seconds=int(WINDOW.total_seconds())),
    )
    joined = events.left_join(near.select("event_id", "list", "channel"), "event_id")
    return joined.select(*events.columns, "list", "channel")


def engaged(events: ir.Table) -> ir.Table:
    """user, day of the first positive engagement of each impression that had one; `events` as
    `in_time` gives them.
    """
    liked = events.filter(events["value"] > 0, events["list"].notnull())
    return (
        liked.group_by("list", "item")
        .agg(user=liked.user.min(), day=liked.day.min())
        .select("user", "day")
    )


def first_engagements(touched: ir.Table) -> ir.Table:
    """item_id, engaged_day: when anybody first engaged with it; `touched` has item_id and day of
    every engagement.
    """
    return touched.group_by("item_id").agg(engaged_day=touched.day.min())


def top_interests(history: ir.Table, topics: ir.Table, most: int) -> ir.Table:
    """user, topic: the `most` topics that each user engaged with most, ties by the topic's name."""
    counts = (
        history.inner_join(topics, "item").group_by("user", "topic").agg(engagements=ibis._.count())
    )
    order = ibis.window(group_by="user", order_by=[counts.engagements.desc(), counts.topic])
    ranked = counts.mutate(rank=ibis.row_number().over(order))
    return ranked.filter(ranked["rank"] < most).select("user", "topic")
