"""The two tables that every figure and every test is made of: user days, and counts of items and
topics.
"""

from collections.abc import Sequence
from datetime import timedelta

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from mtmh.experiment.data import ExperimentData
from mtmh.experiment.definitions import DEFINITIONS

USER_DAYS = pa.schema(  # one row per arm, day and user with impressions or engagements on that day
    [
        ("arm", pa.string()),
        ("day", pa.date32()),
        ("user_id", pa.string()),
        # 0..99 of a hash of the user, which has nothing to do with the arms.
        (
            "bucket",
            pa.int32(),
        ),
        ("impressions", pa.int64()),
        ("fresh_impressions", pa.int64()),
        ("cold_impressions", pa.int64()),
        ("relevance_impressions", pa.int64()),
        ("judged_impressions", pa.int64()),  # item and trigger have topics
        ("matched_impressions", pa.int64()),  # and share one
        ("engaged_impressions", pa.int64()),  # at least one positive engagement goes back to it
        ("lists", pa.int64()),
        ("diversity", pa.float64()),  # sum over the diverse lists of their intra-list diversity
        ("diverse_lists", pa.int64()),  # lists with at least two items that have topics
        ("engagements", pa.int64()),  # positive ones: value > 0
        ("attributed_engagements", pa.int64()),  # positive ones that go back to an impression
        ("relevance_engagements", pa.int64()),  # of those: to one of the relevance head
        ("seconds", pa.float64()),  # dwell of all engagements, at most a day's
        ("active", pa.int64()),  # 1 with at least one positive engagement, else 0
        ("novel_interests", pa.int64()),
        # Share of the user's top topics that the impressions had.
        (
            "recalled_interests",
            pa.float64(),
        ),
        ("interested", pa.int64()),  # 1 with impressions and top topics to recall, else 0
    ]
)
ITEM_COUNTS = pa.schema(  # one row per arm, day, bucket and item, and one per topic
    [
        ("arm", pa.string()),
        ("day", pa.date32()),
        ("bucket", pa.int32()),
        ("over", pa.string()),  # "item" or "topic": what `key` names
        ("key", pa.string()),  # item_id or L2 topic
        ("impressions", pa.float64()),  # a topic's: an item counts for its topics in equal parts
        ("views", pa.float64()),  # engagements of any kind
        # How many keys there could be: items by the end of that day, or topics of the catalog.
        (
            "size",
            pa.int64(),
        ),
    ]
)
DIGITS = 9  # of sums of floats
KEYS = ("arm", "day", "user_id", "bucket")
SUMS = tuple(field for field in USER_DAYS if field.name not in KEYS)


def user_days(data: ExperimentData) -> ir.Table:
    """One row per arm, day and user with impressions or engagements on that day, in the columns of
    `USER_DAYS`.

    Ordered by the keys, so that the same log gives the same table. Whoever is not there on a day
    counts with zeros; `data.users` has all of them.
    """
    return unordered_user_days(data).order_by("arm", "day", "user_id")


def unordered_user_days(data: ExperimentData) -> ir.Table:
    """`user_days` in any order: what sums need."""
    # What was done: an engagement is positive, goes back to an impression, to one of a head.
    rows = data.events
    positive = rows["value"] > 0
    attributed = positive & rows["list"].notnull()
    of_relevance = attributed & (rows.channel == "relevance").fill_null(False)
    dwell = rows.dwell_seconds.fill_null(0.0).sum()
    events = rows.group_by("user", "day").agg(
        engagements=positive.cast("int64").sum(),
        attributed_engagements=attributed.cast("int64").sum(),
        relevance_engagements=of_relevance.cast("int64").sum(),
        seconds=ibis.least(dwell, DEFINITIONS.longest_dwell_seconds),
        active=positive.cast("int64").max(),
    )
    parts = [
        _impressions(data),
        data.lists.group_by("user", "day").agg(lists=data.lists.count()),
        events,
        data.engaged.group_by("user", "day").agg(engaged_impressions=data.engaged.count()),
        _novel_interests(data),
        *_topics_of_lists(data),
    ]
    # One wide table: every part has zeros in the columns of the others.
    columns = []
    for part in parts:
        values = {}
        for field in SUMS:
            kind = "float64" if pa.types.is_floating(field.type) else "int64"
            value = part[field.name] if field.name in part.columns else ibis.literal(0)
            values[field.name] = value.cast(kind)
        columns.append(part.select("user", "day", **values))
    rows = ibis.union(*columns)
    days = rows.group_by("user", "day").agg(
        **{field.name: _total(rows[field.name]) for field in SUMS}
    )
    # Sums in numbers first; the names come to the few rows that are left.
    named = days.inner_join(data.named_users, "user")
    return named.select(USER_DAYS.names).cast({field.name: str(field.type) for field in SUMS})


def item_counts(data: ExperimentData) -> ir.Table:
    """How often what was shown and viewed, in the columns of `ITEM_COUNTS`: a row per arm, day,
    bucket and key.

    Ordered by the keys, so that the same log gives the same table.
    """
    items, topics = counts(data, ("arm", "day", "bucket"))
    # Numbers become names, and each row gets the size of what it is counted over.
    catalog = data.catalog
    ids = catalog.numbered().select("item", key="item_id")
    topic = pa.array(range(len(catalog.topic_names)), pa.int32())
    names = pa.table({"topic": topic, "key": catalog.topic_names})
    days = pa.table({"day": pa.array(data.days, pa.date32()), "size": catalog.sizes(data.days)})
    by_item = items.inner_join(ids, "item").inner_join(ibis.memtable(days), "day")
    by_item = by_item.mutate(over=ibis.literal("item"))
    by_topic = topics.inner_join(ibis.memtable(names), "topic")
    size = ibis.literal(len(names), "int64")
    by_topic = by_topic.mutate(size=size, over=ibis.literal("topic"))
    columns = ["arm", *ITEM_COUNTS.names[1:]]
    rows = by_item.select(columns).union(by_topic.select(columns)).rename(number="arm")
    rows = rows.inner_join(data.arms, "number").select(ITEM_COUNTS.names)
    return rows.order_by("arm", "day", "bucket", "over", "key")


def counts(data: ExperimentData, keys: Sequence[str]) -> tuple[ir.Table, ir.Table]:
    """Impressions and views by `keys` and item, and by `keys` and topic.

    keys: of arm (its number), day and bucket.
    """
    users = data.users.numbered().select("user", "arm", "bucket")
    impressions = data.impressions.select("user", "day", "item").inner_join(users, "user")
    events = data.events.select("user", "day", "item").inner_join(users, "user")
    group = [*keys, "item"]
    none = ibis.literal(0, "int64")
    rows = impressions.group_by(group).agg(impressions=impressions.count(), views=none)
    rows = rows.union(events.group_by(group).agg(impressions=none, views=events.count()))
    items = rows.group_by(group).agg(
        impressions=rows.impressions.sum().cast("float64"),
        views=rows.views.sum().cast("float64"),
    )
    # An item counts for its topics in equal parts.
    split = items.inner_join(data.catalog.topics(), "item")
    topics = split.group_by([*keys, "topic"]).agg(
        impressions=_total(split.impressions * split.share),
        views=_total(split.views * split.share),
    )
    return items, topics


def _total(column: ir.Column) -> ir.Value:
    """The sum; of floats without the last digits, which depend on the order in which an engine adds
    them.
    """
    return column.sum().round(DIGITS) if column.type().is_floating() else column.sum()


def _impressions(data: ExperimentData) -> ir.Table:
    hits = data.matched.mutate(matched=True)
    rows = data.impressions.left_join(hits, ["item", "trigger"])
    rows = rows.mutate(relevance=rows.channel == "relevance")
    flags = {
        f"{name}_impressions": rows[name].fill_null(False).cast("int64").sum()
        for name in ("fresh", "cold", "relevance", "judged", "matched")
    }
    return rows.group_by("user", "day").agg(impressions=rows.count(), **flags)


def _novel_interests(data: ExperimentData) -> ir.Table:
    """A topic is novel on a user's day when the one before it is long ago, or there is none."""
    begin = data.first - timedelta(days=DEFINITIONS.novel_days)
    rows = data.history.filter(data.history.day >= begin)
    rows = rows.inner_join(data.catalog.topics().select("item", "topic"), "item")
    days = rows.group_by("user", "topic", "day").agg(engagements=rows.count())
    before = days.day.lag().over(ibis.window(group_by=["user", "topic"], order_by="day"))
    days = days.mutate(before=before)
    gap = days.day.delta(days.before, unit="day")
    novel = days.filter(
        days.before.isnull() | (gap > DEFINITIONS.novel_days),
        days.engagements >= DEFINITIONS.novel_engagements,
        days.day >= data.first,
    )
    return novel.group_by("user", "day").agg(novel_interests=novel.count())


def _topics_of_lists(data: ExperimentData) -> tuple[ir.Table, ir.Table]:
    """Of each user and day, from the topics of the lists: how diverse these are, and the share of
    the user's top interests that they had.
    """
    # An item's topics are equal parts of it. A list's topic vectors have unit length; `length` is
    # the topic's in their sum.
    rows = data.impressions.select("list", "item").inner_join(data.catalog.topics(), "item")
    by_topic = rows.group_by("list", "topic").agg(
        items=rows.share.sum(), length=rows.share.sqrt().sum()
    )
    lists = data.lists.select("list", "user", "day")

    # 1 - mean cosine over a list's pairs: those of n unit vectors sum up to (|sum|^2 - n) / 2.
    sums = by_topic.group_by("list").agg(
        items=by_topic["items"].sum().round(0), squared=(by_topic.length * by_topic.length).sum()
    )
    sums = sums.filter(sums["items"] > 1).inner_join(lists, "list")
    n = sums["items"]
    rows = sums.select("user", "day", distance=1.0 - (sums.squared - n) / (n * (n - 1.0)))
    diversity = rows.group_by("user", "day").agg(
        diversity=rows.distance.sum(), diverse_lists=rows.count()
    )

    # Each of the top topics counts once, however many of the day's lists had it.
    wanted = data.interests.group_by("user").agg(wanted=ibis._.count())
    served = lists.select("user", "day").distinct().inner_join(wanted, "user")
    had = by_topic.select("list", "topic").inner_join(lists, "list")
    had = had.inner_join(data.interests, ["user", "topic"]).select("user", "day", "topic")
    had = had.distinct().group_by("user", "day").agg(had=ibis._.count())
    rows = served.left_join(had, ["user", "day"]).select("user", "day", "wanted", "had")
    recalled = rows.had.fill_null(0) / rows.wanted
    return diversity, rows.select(
        "user", "day", recalled_interests=recalled, interested=ibis.literal(1)
    )
