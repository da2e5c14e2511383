"""Groups of users that are fixed by what they did before the experiment, so that no arm can change
who is in them.

Segments are exploratory: they are many, they are small, and the verdict does not look at them.
Their p-values are corrected together, over every segment and metric that is shown; what they say is
a question for the next experiment.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics import Effect, effects
from mtmh.experiment.statistics.effects import holm

NEW_DAYS = (
    14  # a new user's first engagement lies at most this many days before the experiment, or in it,
)
NEW_ENGAGEMENTS = 10  # or the user has at most so many before it: there is little to retrieve by
HEAVY_SHARE = (
    0.2  # of the users with a history, by engagements in it; those at the threshold are all in
)
METRICS_SHOWN = ("time_spent", "engagement_rate", "novel_interests")
LEAST_USERS = 100  # of each arm, as for the verdict: smaller segments are named, and not compared


@dataclass(frozen=True)
class Segment:
    """Users who are alike before the experiment begins."""

    kind: str  # "users" or "topic"
    name: str
    users: pa.Array  # string

    @classmethod
    def by_topic(cls, before: pa.Table, items: pa.Table) -> Iterator[Self]:
        """The users of each L1 topic: the topic of most of their earlier engagements."""
        lists = items["l1_topics"].combine_chunks()
        item_of = items["item_id"].take(pc.list_parent_indices(lists))
        topic_of = pa.table({"item_id": item_of, "topic": lists.flatten()})
        engaged = before.select(["user_id", "item_id"]).join(topic_of, "item_id", join_type="inner")
        counts = engaged.group_by(["user_id", "topic"]).aggregate([([], "count_all")])
        # The first row of a user has the most; ties go by the topic's name.
        order = [("user_id", "ascending"), ("count_all", "descending"), ("topic", "ascending")]
        ordered = counts.sort_by(order)
        names = ordered["user_id"].combine_chunks()
        first = np.ones(len(names), bool)
        if len(names) > 1:
            first[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        favourites = ordered.filter(pa.array(first))
        for topic in pc.unique(favourites["topic"]).sort().to_pylist():
            of_topic = favourites.filter(pc.equal(favourites["topic"], topic))
            yield cls("topic", topic, _user_ids(of_topic))


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
    """New, heavy and all other users, and users by the L1 topic of most of their earlier
    engagements.

    `users`: string, those compared. `history` and `items`: the experiment folder's tables; rows
    from `first_day` on do not count. A user without topics in the history is in no topic's segment;
    a tie goes to the topic that comes first by name; items without the column `l1_topics` make no
    segments by topic.
    """
    start = pa.scalar(datetime.combine(first_day, time(), UTC), pa.timestamp("us", tz="UTC"))
    is_before = pc.less(history["timestamp"], start)
    before = history.filter(pc.and_(is_before, pc.is_in(history["user_id"], users)))
    # By activity: users with enough of a past are old; heavy are those of them with most.
    past = before.group_by("user_id").aggregate([("timestamp", "min"), ([], "count_all")])
    new_from = datetime.combine(first_day - timedelta(days=NEW_DAYS), time(), UTC)
    is_early = pc.less(past["timestamp_min"], pa.scalar(new_from, pa.timestamp("us", "UTC")))
    old = past.filter(pc.and_(is_early, pc.greater(past["count_all"], NEW_ENGAGEMENTS)))
    heavy = old.slice(0, 0)
    if past.num_rows:
        counts = past["count_all"].to_numpy()
        least = np.quantile(counts, 1 - HEAVY_SHARE, method="higher")
        heavy = old.filter(pc.greater_equal(old["count_all"], int(least)))
    is_old = pc.is_in(users, _user_ids(old))
    is_heavy = pc.is_in(users, _user_ids(heavy))
    groups = [
        Segment("users", "new users", users.filter(pc.invert(is_old))),
        Segment("users", "heavy users", users.filter(is_heavy)),
        Segment("users", "all other users", users.filter(pc.and_(is_old, pc.invert(is_heavy)))),
    ]
    if "l1_topics" in items.column_names:
        groups += Segment.by_topic(before, items)
    return groups


def compare_segments(
    user_days: pa.Table,
    segments: Sequence[Segment],
    control: str,
    treatment: str,
    planned_days: int,
) -> tuple[list[SegmentEffect], list[Segment]]:
    """Effects on METRICS_SHOWN by segment, corrected over all of them; and the small segments.

    Segments of fewer than LEAST_USERS users in an arm are not compared.
    """
    metrics = {name: METRICS[name] for name in METRICS_SHOWN}
    pairs: list[tuple[Segment, Effect]] = []
    too_small = []
    for segment in segments:
        rows = user_days.filter(pc.is_in(user_days["user_id"], segment.users))
        # Each arm needs enough of them: many in one and few in the other make no comparison.
        sizes = []
        for arm in (control, treatment):
            of_arm = rows.filter(pc.equal(rows["arm"], arm))
            sizes.append(pc.count_distinct(of_arm["user_id"]).as_py())
        if min(sizes) < LEAST_USERS:
            too_small.append(segment)
            continue
        measured = effects(rows, None, control, treatment, metrics, planned_days=planned_days)
        pairs += [(segment, effect) for effect in measured]
    # Corrected together: each segment and metric is one more chance to find what is not there.
    adjusted = holm([effect.p for _, effect in pairs])
    compared = [SegmentEffect(*pair, p) for pair, p in zip(pairs, adjusted, strict=True)]
    return compared, too_small


def _user_ids(table: pa.Table) -> pa.Array:
    """The column user_id as one array."""
    column = table["user_id"].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
