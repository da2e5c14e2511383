"""The prepared data of one run, as arrays: what every later stage reads."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.data import contract
from mtmh.errors import UserError
from mtmh.ids import Ids
from mtmh.ragged import Ragged

Level = Literal["l1", "l2"]
_NEVER = np.iinfo(np.int64).min  # numpy's NaT as a number
_NO_CONCEPTS = pa.table({column.name: pa.array([], column.type) for column in contract.CONCEPTS})


@dataclass(frozen=True)
class Prepared:
    """What `prepare` left in the directory `path`.

    The event arrays run in time order; at equal times in order of user_id, then item_id, and the
    later row counts as the newer. `user` is the dense number of a user_id in order of user_id,
    `item` the row of `items`.
    """

    path: Path
    info: dict[str, Any]  # prepared.json
    user: np.ndarray  # int32 [events]
    item: np.ndarray  # int32 [events]
    timestamp: np.ndarray  # datetime64[us] [events], UTC
    is_train: np.ndarray  # bool [events]; True = T1, False = T2
    n_users: int
    n_items: int
    items: pa.Table  # the contract's columns and the declared features, row = item

    @classmethod
    def load(cls, path: Path | str) -> "Prepared":
        """Read a prepared directory. Raises UserError when `path` is not one."""
        path = Path(path)
        # It is written last: a folder without it is one that was not finished.
        if not (path / "prepared.json").is_file():
            raise UserError(
                f"{path} holds no prepared.json: give the directory that the stage prepare "
                f"finished writing."
            )
        info = json.loads((path / "prepared.json").read_text())
        events = pq.read_table(
            path / "interactions.parquet", columns=["user", "item", "timestamp", "period"]
        )
        return cls(
            path=path,
            info=info,
            user=events["user"].to_numpy(),
            item=events["item"].to_numpy(),
            # numpy has no time zones, and everything here is UTC.
            timestamp=events["timestamp"].cast(pa.int64()).to_numpy().view("datetime64[us]"),
            is_train=pc.equal(events["period"], "train").to_numpy(),
            n_users=info["users"],
            n_items=info["items"],
            items=pq.read_table(path / "items.parquet"),
        )

    @cached_property
    def popularity(self) -> np.ndarray:
        """Events of each item in T1, int64 [n_items]."""
        return np.bincount(self.item[self.is_train], minlength=self.n_items)

    @property
    def in_train(self) -> np.ndarray:
        """Which items T1 engages with, bool [n_items]; the others are cold."""
        in_train: np.ndarray = self.popularity > 0
        return in_train

    def train_histories(self) -> Ragged:
        """Each user's distinct T1 items, newest engagement first (paper section 6: the first 50 are
        the triggers).

        A row a user, int32.
        """
        pairs = self._pairs(self.is_train)
        newest_first = pairs[::-1]
        # First position = the newest engagement.
        keys, position = np.unique(newest_first, return_index=True)
        users = keys // self.n_items
        order = np.lexsort((position, users))
        counts = np.bincount(users, minlength=self.n_users)
        return Ragged.of_lengths(counts, (keys[order] % self.n_items).astype(np.int32))

    def targets(self) -> tuple[np.ndarray, Ragged]:
        """The T2 items to retrieve, per test user (paper section 6).

        A target is a distinct T2 item that the user had not engaged with in T1; a test user has T1
        events and targets. Returns `users` int32 [test users], ascending, and a row each of int32
        items, ascending.
        """
        users, items = unseen_pairs(
            self._pairs(self.is_train), self._pairs(~self.is_train), self.n_items
        )
        test_users, starts = np.unique(users, return_index=True)
        indptr = np.append(starts, len(users)).astype(np.int64)
        return test_users.astype(np.int32), Ragged(indptr, items)

    def split_time(self) -> np.datetime64:
        """The first moment of T2, datetime64[us], UTC."""
        return np.datetime64(self.info["split_time"].removesuffix("+00:00"), "us")

    def born(self) -> np.ndarray:
        """When each item was there first: its creation or first engagement of any period, whichever
        is earlier.

        datetime64[us] [n_items], UTC; NaT for an item that has neither.
        """
        first = np.full(self.n_items, np.datetime64("NaT"), "datetime64[us]")
        # Written latest first, so that the earliest stays.
        first[self.item[::-1]] = self.timestamp[::-1]
        created = (
            self.items["created_at"]
            .cast(pa.int64())
            .fill_null(_NEVER)
            .to_numpy()
            .view("datetime64[us]")
        )
        return np.fmin(first, created)

    def concepts(self) -> pa.Table:
        """What the items are tagged with: `item` int32 (its row of `items`), concept, source,
        weight. May be empty.
        """
        path = self.path / "concepts.parquet"
        columns = ["item_id", "concept", "source", "weight"]
        table = pq.read_table(path, columns=columns) if path.is_file() else _NO_CONCEPTS
        return table.set_column(
            0, "item", pa.array(Ids(self.items["item_id"]).rows(table["item_id"]))
        )

    def topic_names(self, level: Level) -> list[str]:
        """Distinct topics of a level ("l1" or "l2"), sorted; bit b of `topic_bits` is name b."""
        names = pc.unique(pc.list_flatten(self.items[f"{level}_topics"])).drop_null()
        return sorted(names.to_pylist())

    def topic_bits(self, level: Level) -> np.ndarray | None:
        """Topics of each item as a bit mask, uint64 [n_items, words]; None when no item has a topic
        at this level.

        Two items share a topic exactly when `(bits[a] & bits[b]).any()`.
        """
        names = self.topic_names(level)
        if not names:
            return None
        topics = self.items[f"{level}_topics"].combine_chunks()
        item = pc.list_parent_indices(topics).to_numpy()
        bit = Ids(names).rows(pc.list_flatten(topics)).astype(np.int64)
        bits = np.zeros((self.n_items, (len(names) + 63) // 64), np.uint64)
        np.bitwise_or.at(bits, (item, bit // 64), np.uint64(1) << (bit % 64).astype(np.uint64))
        return bits

    def _pairs(self, chosen: np.ndarray) -> np.ndarray:
        return self.user[chosen].astype(np.int64) * self.n_items + self.item[chosen]


def unseen_pairs(
    train: np.ndarray, test: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """T2 pairs that are new to a user with T1 events; pairs are `user * n_items + item`, int64.

    Returns `users` int32 and `items` int32, distinct and ascending by (user, item).
    """
    before, after = distinct(train), distinct(test)
    position = np.searchsorted(before, after)
    same = before[np.minimum(position, len(before) - 1)] == after
    # The user's first T1 pair, if any.
    first_pair = np.searchsorted(before, after // n_items * n_items)
    in_train = before[np.minimum(first_pair, len(before) - 1)] // n_items == after // n_items
    unseen = after[in_train & ~same]
    return (unseen // n_items).astype(np.int32), (unseen % n_items).astype(np.int32)


def distinct(keys: np.ndarray) -> np.ndarray:
    """The distinct keys in ascending order. (`np.unique` hashes integers: much slower on
    millions.)
    """
    ordered = np.sort(keys)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]
