"""Items, topics and users as numbers: what the rows of a log are joined with, so that no text
travels further.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.data.contract import UTC_MICROSECONDS
from mtmh.experiment.arms import Arm, assign_all, buckets
from mtmh.experiment.definitions import DEFINITIONS
from mtmh.ids import Ids

UNIT_BUCKETS = 100  # set_metrics.py leaves out one of them at a time
UNIT_SALT = "mtmh.units/"  # not the experiment's: these buckets must cut across the arms
_HOUR = 3_600_000_000  # microseconds


@dataclass(frozen=True)
class ItemTable:
    """The items of an experiment folder and, behind these, the ones that only the log has."""

    item_id: pa.Array  # string [items]; the row is the item's number
    created: np.ndarray  # datetime64[us] [items], NaT where not known
    topic_names: pa.Array  # string [topics], sorted; the row is the topic's number
    item: np.ndarray  # int32 [n], with `topic`: which item has which topic, each pair once
    topic: np.ndarray  # int32 [n]
    from_table: int  # items of the item table; the rest comes from the log
    # datetime64[us] [items - from_table], the day on which the log first names an item of the rest
    logged: np.ndarray
    repeated: pa.Array  # item_id that the item table has again: the first row counts

    def numbered(self) -> ir.Table:
        """item_id, item, created, fresh_until (timestamps, null where not known), topics (how many
        it has).
        """
        until = self.created + np.timedelta64(DEFINITIONS.fresh_hours * _HOUR, "us")
        topics = np.bincount(self.item, minlength=len(self.item_id)).astype(np.int32)
        columns = {
            "item_id": self.item_id,
            "item": np.arange(len(self.item_id), dtype=np.int32),
            "created": pa.array(self.created, pa.timestamp("us")).cast(UTC_MICROSECONDS),
            "fresh_until": pa.array(until, pa.timestamp("us")).cast(UTC_MICROSECONDS),
            "topics": topics,
        }
        return ibis.memtable(pa.table(columns))

    def topics(self) -> ir.Table:
        """item, topic, share (1 / topics of the item, float64): one row a topic of an item."""
        count = np.bincount(self.item, minlength=len(self.item_id))
        share = 1 / count[self.item]
        return ibis.memtable(pa.table({"item": self.item, "topic": self.topic, "share": share}))

    def with_unknown(self, ids: pa.Array, days: np.ndarray) -> "ItemTable":
        """The same with items behind it of which only the id and the day of first mention are
        known.

        days: datetime64[us], as long as `ids`.
        """
        nothing = np.full(len(ids), "NaT", "datetime64[us]")
        item_id = pa.concat_arrays([self.item_id, ids.cast(pa.string())])
        created = np.concatenate([self.created, nothing])
        logged = np.concatenate([self.logged, days])
        return replace(self, item_id=item_id, created=created, logged=logged)

    def sizes(self, days: list[date]) -> np.ndarray:
        """Items that there are by the end of each day, int64 [days].

        An item of the table without a creation time is always there, one that only the log has from
        its first day on.
        """
        end = np.array([day + timedelta(days=1) for day in days], "datetime64[us]")
        created = self.created[: self.from_table]
        born = np.sort(np.concatenate([created[~np.isnat(created)], self.logged]))
        return np.searchsorted(born, end) + int(np.isnat(created).sum())


def read_item_table(path: Path) -> ItemTable:
    """Number the items of an item table, in the order in which they stand there."""
    table = pq.read_table(path, columns=["item_id", "created_at", "l2_topics"])
    ids = table["item_id"].cast(pa.string()).combine_chunks()
    # The first row of an id counts; rows without an id do not.
    codes = ids.dictionary_encode().indices.fill_null(-1).to_numpy()
    first = np.sort(np.unique(codes, return_index=True)[1])
    first = first[ids.is_valid().to_numpy(zero_copy_only=False)[first]]
    again = np.setdiff1d(np.arange(len(ids)), first)
    table = table.take(first)
    # Pairs of item and topic, each once, as one number.
    topics = table["l2_topics"].cast(pa.list_(pa.string())).combine_chunks()
    item, name = pc.list_parent_indices(topics), pc.list_flatten(topics)
    item, name = item.filter(name.is_valid()), name.drop_null()
    names = pc.unique(name).sort()
    topic = Ids(names).rows(name)
    pairs = np.unique(item.to_numpy().astype(np.int64) * len(names) + topic)
    created = table["created_at"].cast(UTC_MICROSECONDS, safe=False).cast(pa.timestamp("us"))
    return ItemTable(
        item_id=ids.take(first),
        created=created.to_numpy(),
        topic_names=names,
        item=(pairs // max(len(names), 1)).astype(np.int32),
        topic=(pairs % max(len(names), 1)).astype(np.int32),
        from_table=len(first),
        logged=np.array([], "datetime64[us]"),
        repeated=ids.take(again),
    )


@dataclass(frozen=True)
class UserTable:
    """Everybody in the log, and the arm they belong to; the row is the user's number."""

    user_id: pa.Array  # string [users]
    # int32 [users], index into the experiment's arms; -1: served by two arms, in no comparison.
    arm: np.ndarray
    bucket: np.ndarray  # int32 [users], 0..99
    # bool [users]: served by an arm that is not the one of their salt and weights
    assignment_mismatch: np.ndarray
    served: np.ndarray  # bool [users]: the others engaged and have no answer that can be used
    seen: np.ndarray  # datetime64[D] [users], the first day on which they were served or engaged

    @property
    def contaminated(self) -> pa.Array:
        """Users whom two arms served."""
        return self.user_id.filter(pa.array(self.arm < 0))

    def by_day(self, arms: int, days: list[date]) -> np.ndarray:
        """Users of each of the `arms` that were seen by the end of each day, int64 [arms, days]."""
        firsts = [np.sort(self.seen[self.arm == arm]) for arm in range(arms)]
        ends = np.array(days, "datetime64[D]")
        return np.array([np.searchsorted(first, ends, side="right") for first in firsts])

    def numbered(self) -> ir.Table:
        """user_id, user, arm (its number), bucket, of those who are in one arm."""
        user = np.arange(len(self.user_id), dtype=np.int32)
        columns = {"user_id": self.user_id, "user": user, "arm": self.arm, "bucket": self.bucket}
        table = pa.table(columns)
        return ibis.memtable(table.filter(pc.greater_equal(table["arm"], 0)))


def assign_users(
    served: pa.Table, engaged: pa.Table, salt: str, arms: tuple[Arm, ...]
) -> UserTable:
    """Number the users, and say in which arm they are.

    served: user_id, arm, other_arm (the least and the greatest name of the arms that served the
    user), seen (the user's first day), each user once. engaged: user_id and seen of the users who
    did something and were never served, who are in the arm that would have served them.
    """
    names = Ids([arm.name for arm in arms])
    ids = pa.concat_arrays([_strings(served, "user_id"), _strings(engaged, "user_id")])
    # The arm by salt and weights, and the arms that the log says served the user.
    due = names.rows(assign_all(ids, salt, arms))
    first = names.rows(_strings(served, "arm"))
    other = names.rows(_strings(served, "other_arm"))
    arm = np.where(first == other, first, -1)
    arm = np.concatenate([arm, due[len(first) :]]).astype(np.int32)
    bucket = buckets(ids, UNIT_SALT).to_numpy() % UNIT_BUCKETS
    seen = np.concatenate([served["seen"].to_numpy(), engaged["seen"].to_numpy()])
    return UserTable(
        user_id=ids,
        arm=arm,
        bucket=bucket.astype(np.int32),
        assignment_mismatch=(arm >= 0) & (arm != due),
        served=np.arange(len(ids)) < len(first),
        seen=seen.astype("datetime64[D]"),
    )


def _strings(table: pa.Table, name: str) -> pa.Array:
    """A column as one array of strings."""
    column = table[name].combine_chunks().cast(pa.string())
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
