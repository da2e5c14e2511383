"""Source tables of the features, as relational expressions: an item's or a user's past at a moment.

Every table is a series of snapshots. A snapshot at time t counts events with `timestamp < t` and
nothing else, so a reader who asks for time t (and gets the last snapshot at or before t) never sees
an event of t or later. `created` is the moment at which a row could first have been computed: the
snapshot's own time. The expressions are Ibis: DuckDB here, another engine by the connection.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend
from ibis.expr.types import FloatingValue, NumericValue, Table, TimestampValue

from mtmh.data.files import write_relation

SNAPSHOTS = 30  # most snapshots of the item statistics, whatever the span of the data
RECENT = timedelta(days=7)  # what log_recent_popularity counts
HISTORY = 50  # most distinct items of a user's interaction history (UIH)
INTERESTS = 10  # most topics of a user's interests
DAY = timedelta(days=1)


def snapshot_times(first: datetime, last: datetime, most: int = SNAPSHOTS) -> list[datetime]:
    """Evenly spaced times after `first`, up to and including `last`: at most `most`, and at least a
    day apart.
    """
    step = max(DAY, (last - first) / most)
    count = min(most, max(1, -(-(last - first) // step)))
    return [last - step * k for k in reversed(range(count))]


def item_statistics(interactions: Table, items: Table, times: Sequence[datetime]) -> Table:
    """Popularity and age of each item at each of `times`.

    Columns: item_id, event_timestamp (the snapshot), created, popularity (events so far, int64),
    recent_popularity (events of the last seven days, int64), age_days (since the item's creation or
    first event, whichever came first, float32), and log(1 + x) of the three as log_popularity,
    log_recent_popularity, log_age_days (float32). An item that was not there yet has no row.
    """
    snapshots = _times(times)
    events = interactions.select("item_id", "timestamp")
    recent = events.timestamp >= snapshots.event_timestamp - ibis.interval(
        seconds=int(RECENT.total_seconds())
    )
    counts = (
        events.join(snapshots, events.timestamp < snapshots.event_timestamp)
        .select("item_id", "event_timestamp", "timestamp", recent=recent)
        .group_by("item_id", "event_timestamp")
        .agg(
            popularity=ibis._.count(),
            recent_popularity=ibis._.count(where=ibis._.recent),
            first=ibis._.timestamp.min(),
        )
    )
    grid = items.select("item_id", "created_at").cross_join(snapshots)
    joined = grid.left_join(counts, ["item_id", "event_timestamp"]).select(
        "item_id",
        "event_timestamp",
        popularity=ibis.coalesce(counts.popularity, ibis.literal(0, "int64")),
        recent_popularity=ibis.coalesce(counts.recent_popularity, ibis.literal(0, "int64")),
        born=_earlier(grid.created_at, counts["first"]),
    )
    # Before its first moment, an item has no row.
    rows = joined.filter(joined.born <= joined.event_timestamp)
    age_days = (
        rows.event_timestamp.epoch_seconds() - rows.born.epoch_seconds()
    ) / DAY.total_seconds()
    return rows.select(
        "item_id",
        "event_timestamp",
        "popularity",
        "recent_popularity",
        created=rows.event_timestamp,
        age_days=age_days.cast("float32"),
        log_popularity=_log1p(rows.popularity),
        log_recent_popularity=_log1p(rows.recent_popularity),
        log_age_days=_log1p(age_days),
    ).order_by("item_id", "event_timestamp")


def user_history(
    interactions: Table,
    items: Table,
    times: Sequence[datetime],
    length: int = HISTORY,
    interests: int = INTERESTS,
) -> Table:
    """Interaction history (UIH) and topic interests of each user at each of `times`; no row before
    the first event.

    Columns: user_id, event_timestamp, created, item_ids (the last `length` distinct items, newest
    first; at equal times the larger item_id is the newer, as in mtmh.data.prepared), topics (the
    `interests` most frequent L2 topics among those items, ties by name) and topic_shares (each
    topic's share of all topics of those items, float32).
    """
    snapshots = _times(times)
    keys = ["user_id", "event_timestamp"]
    events = interactions.select("user_id", "item_id", "timestamp")
    engaged = (
        events.join(snapshots, events.timestamp < snapshots.event_timestamp)
        .group_by([*keys, "item_id"])
        .agg(timestamp=ibis._.timestamp.max())
    )
    # The last distinct items of each user, the newest first.
    newest = ibis.window(group_by=keys, order_by=[engaged.timestamp.desc(), engaged.item_id.desc()])
    last = engaged.mutate(rank=ibis.row_number().over(newest))
    last = last.filter(last["rank"] < length)
    histories = last.group_by(keys).agg(item_ids=last.item_id.collect(order_by=last["rank"]))
    tastes = _interests(last, items, keys, interests)
    # A user of items without topics has empty interests, not null.
    no_names = ibis.literal([], type="array<string>")
    no_shares = ibis.literal([], type="array<float32>")
    return (
        histories.left_join(tastes, keys)
        .select(
            *keys,
            "item_ids",
            created=histories.event_timestamp,
            topics=ibis.coalesce(tastes.topics, no_names),
            topic_shares=ibis.coalesce(tastes.topic_shares, no_shares),
        )
        .order_by(keys)
    )


def _interests(engaged: Table, items: Table, keys: list[str], most: int) -> Table:
    topics = items.select("item_id", topic=items.l2_topics.unnest()).distinct()
    counts = (
        engaged.inner_join(topics, "item_id").group_by([*keys, "topic"]).agg(items=ibis._.count())
    )
    total = counts["items"].sum().over(ibis.window(group_by=keys))
    frequent = ibis.window(group_by=keys, order_by=[counts["items"].desc(), counts.topic])
    ranked = counts.mutate(
        share=(counts["items"] / total).cast("float32"), rank=ibis.row_number().over(frequent)
    )
    top = ranked.filter(ranked["rank"] < most)
    return top.group_by(keys).agg(
        topics=top.topic.collect(order_by=top["rank"]),
        topic_shares=top.share.collect(order_by=top["rank"]),
    )


def write_item_statistics(prepared: Path, out: Path, until: datetime) -> None:
    """Write the Parquet file `out`: the items' statistics at up to 30 times up to `until`.

    `prepared` is the directory of that stage; no event at or after `until` is counted.
    """
    connection = ibis.duckdb.connect()
    interactions, items = _tables(connection, prepared)
    past = interactions.filter(interactions.timestamp < ibis.literal(until))
    first = past.timestamp.min().as_scalar().to_pyarrow().as_py() or until
    write_relation(item_statistics(past, items, snapshot_times(first, until)), out)
    connection.disconnect()


def write_user_history(prepared: Path, out: Path) -> datetime:
    """Write the Parquet file `out`: the users' histories of all interactions in `prepared`, the
    directory of that stage.

    They are as of now by the log's own clock: a microsecond after its newest event, which is
    returned, and is the snapshot's time.
    """
    connection = ibis.duckdb.connect()
    interactions, items = _tables(connection, prepared)
    newest: datetime = interactions.timestamp.max().as_scalar().to_pyarrow().as_py()
    now = newest + timedelta(microseconds=1)
    write_relation(user_history(interactions, items, [now]), out)
    connection.disconnect()
    return now


def _tables(connection: Backend, prepared: Path) -> tuple[Table, Table]:
    folder = prepared.resolve()
    names = ("interactions.parquet", "items.parquet")
    interactions, items = (connection.read_parquet(folder / name) for name in names)
    return interactions, items


def _times(times: Sequence[datetime]) -> Table:
    return ibis.memtable(
        pa.table({"event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})
    )


def _earlier(first: TimestampValue, other: TimestampValue) -> TimestampValue:
    """The earlier of two times; where one is null, the other (engines differ in what `least` does
    with nulls).
    """
    return ibis.least(ibis.coalesce(first, other), ibis.coalesce(other, first))


def _log1p(value: NumericValue) -> FloatingValue:
    return (value.cast("float64") + 1.0).ln().cast("float32")
