"""Groups of users that are fixed by what they did before the experiment, so that no arm can change who is in them.

Segments are exploratory: they are many, they are small, and the verdict does not look at them. Their p-values are
corrected together, over every segment and metric that is shown; what they say is a question for the next experiment.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import Effect, effects
from mtmh.experiment.statistics.effects import holm

NEW_DAYS = 14  # a new user's first engagement lies at most this many days before the experiment, or in it,
NEW_ENGAGEMENTS = 10  # or the user has at most so many before it: there is little to retrieve by
HEAVY_SHARE = 0.2  # of the users with a history, by engagements in it; those at the threshold are all in
METRICS_SHOWN = ("time_spent", "engagement_rate", "novel_interests")
LEAST_USERS = 100  # of each arm, as for the verdict: smaller segments are named, and not compared


@dataclass(frozen=True)
class Segment:
    """Users who are alike before the experiment begins."""

    kind: str  # "users" or "topic"
    name: str
    users: pa.Array  # string


@dataclass(frozen=True)
class SegmentEffect:
    """A metric's effect on the users of one segment."""

    segment: Segment
    effect: Effect
    adjusted_p: float  # over all segments and metrics shown

    @property
    def stands(self) -> bool:
        """Whether it is told from chance, after the correction."""
        return self.adjusted_p < 0.05


def segments(users: pa.Array, history: pa.Table, items: pa.Table, first_day: date) -> list[Segment]:
    """New, heavy and all other users, and users by the L1 topic of most of their earlier engagements.

    `users`: string, those compared. `history` and `items`: a place's tables; rows from `first_day` on do not count.
    A user without topics in the history is in no topic's segment; a tie goes to the topic that comes first by name;
    items without the column `l1_topics` make no segments by topic.
    """
    start = pa.scalar(datetime.combine(first_day, time(), UTC), pa.timestamp("us", tz="UTC"))
    before = history.filter(pc.and_(pc.less(history["timestamp"], start), pc.is_in(history["user_id"], users)))
    topics = _by_topic(before, items) if "l1_topics" in items.column_names else ()
    return [*_by_activity(users, before, first_day), *topics]


def compare_segments(
    user_days: pa.Table, found: Sequence[Segment], control: str, treatment: str, planned_days: int
) -> tuple[list[SegmentEffect], list[Segment]]:
    """Effects on METRICS_SHOWN by segment, corrected over all of them; beside them the segments that are too small."""
    shown = {name: METRICS[name] for name in METRICS_SHOWN}
    pairs: list[tuple[Segment, Effect]] = []
    too_small = []
    for segment in found:
        own = user_days.filter(pc.is_in(user_days["user_id"], segment.users))
        sizes = [
            pc.count_distinct(own.filter(pc.equal(own["arm"], arm))["user_id"]).as_py() for arm in (control, treatment)
        ]
        if min(sizes) < LEAST_USERS:
            too_small.append(segment)
            continue
        pairs += [
            (segment, effect) for effect in effects(own, None, control, treatment, shown, planned_days=planned_days)
        ]
    adjusted = holm([effect.p for _, effect in pairs])
    return [SegmentEffect(*pair, p) for pair, p in zip(pairs, adjusted, strict=True)], too_small


def _by_activity(users: pa.Array, before: pa.Table, first_day: date) -> Iterator[Segment]:
    known = before.group_by("user_id").aggregate([("timestamp", "min"), ([], "count_all")])
    recent = pa.scalar(datetime.combine(first_day - timedelta(days=NEW_DAYS), time(), UTC), pa.timestamp("us", "UTC"))
    enough = pc.greater(known["count_all"], NEW_ENGAGEMENTS)
    old = known.filter(pc.and_(pc.less(known["timestamp_min"], recent), enough))
    heavy = old.slice(0, 0)
    if known.num_rows:
        least = np.quantile(known["count_all"].to_numpy(), 1 - HEAVY_SHARE, method="higher")
        heavy = old.filter(pc.greater_equal(old["count_all"], int(least)))
    is_old, is_heavy = (pc.is_in(users, _column(table)) for table in (old, heavy))
    yield Segment("users", "new users", users.filter(pc.invert(is_old)))
    yield Segment("users", "heavy users", users.filter(is_heavy))
    yield Segment("users", "all other users", users.filter(pc.and_(is_old, pc.invert(is_heavy))))


def _by_topic(before: pa.Table, items: pa.Table) -> Iterator[Segment]:
    lists = items["l1_topics"].combine_chunks()
    topic_of = pa.table({"item_id": items["item_id"].take(pc.list_parent_indices(lists)), "topic": lists.flatten()})
    engaged = before.select(["user_id", "item_id"]).join(topic_of, "item_id", join_type="inner")
    counts = engaged.group_by(["user_id", "topic"]).aggregate([([], "count_all")])
    order = [("user_id", "ascending"), ("count_all", "descending"), ("topic", "ascending")]
    most = counts.sort_by(order)
    names = most["user_id"].combine_chunks()
    first = np.ones(len(names), bool)
    if len(names) > 1:
        first[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
    favourites = most.filter(pa.array(first))
    for topic in pc.unique(favourites["topic"]).sort().to_pylist():
        yield Segment("topic", topic, _column(favourites.filter(pc.equal(favourites["topic"], topic))))


def _column(table: pa.Table) -> pa.Array:
    found = table["user_id"].combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
