"""What the router itself needs of one version: numbers to ids and titles, topics and ages to sift
by.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.errors import UserError
from mtmh.retrieval.channels import Channel, channels_in
from serving.router.schema import Filters


@dataclass(frozen=True, eq=False)
class Package:
    """One version's item table and serving settings; row = item number."""

    number: str
    folder: Path
    models: list[str]  # names in Triton
    serving: dict[str, Any]  # serving.json
    channels: tuple[Channel, ...]
    item_ids: list[str]
    titles: list[str]
    # "l1" and "l2"; Arrow, for a list an item would keep Python's garbage collector busy.
    topics: dict[str, pa.Array]
    rows_of_topic: dict[str, np.ndarray]  # L1 or L2 topic -> int32 rows
    # float64 [items], seconds since 1970, NaN where unknown; None where all are.
    created: np.ndarray | None
    packaged: float | None  # seconds since 1970; None of a package from before that was kept
    row_of: dict[str, int]
    searched: pa.Array  # lower case "title item_id" to search in

    @property
    def channel_names(self) -> list[str]:
        """In the order of their numbers."""
        return [channel.name for channel in self.channels]

    def models_of(self, prefix: str, channels: Iterable[str]) -> dict[str, str]:
        """Channel -> its model in Triton: with the prefix "retrieve_" the ensemble, which pools the
        candidates of all triggers, with none the head alone.
        """
        return {channel: f"{prefix}{channel}_{self.number}" for channel in channels}

    @property
    def newest_item(self) -> float | None:
        """When the newest item was created, in seconds since 1970; None where that is not known of
        any.

        An item dated after the packaging has a wrong date, which would hide for ever that no new
        ones come.
        """
        if self.created is None:
            return None
        possible = self.created[self.created <= (self.packaged or np.inf)]  # NaN is not
        return float(possible.max()) if len(possible) else None

    @classmethod
    def load(cls, folder: Path) -> "Package":
        """Read a package directory of the store; its checksums are serving.triton.store's work."""
        manifest = json.loads((folder / "manifest.json").read_text())
        serving = json.loads((folder / "serving.json").read_text())
        items = pq.read_table(folder / "items.parquet")
        ids = items["item_id"].to_pylist()
        titles = [title or "" for title in items["title"].to_pylist()]
        packaged_at = manifest.get("packaged_at")
        # Without any time of creation there is no column, so that a filter by age can say so.
        created = None
        if "created_at" in items.column_names and items["created_at"].null_count < items.num_rows:
            stamps = items["created_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
            created = stamps.cast(pa.float64(), safe=False).to_numpy() / 1e6
        return cls(
            number=str(manifest["version"]),
            folder=folder,
            models=list(manifest["models"]),
            serving=serving,
            channels=channels_in(serving),
            item_ids=ids,
            titles=titles,
            topics={level: items[f"{level}_topics"].combine_chunks() for level in ("l1", "l2")},
            rows_of_topic=_rows_of_topic(items),
            created=created,
            packaged=datetime.fromisoformat(packaged_at).timestamp() if packaged_at else None,
            row_of={item: row for row, item in enumerate(ids)},
            searched=pa.array(
                [f"{title} {item}".lower() for title, item in zip(titles, ids, strict=True)]
            ),
        )

    def sift(self, filters: Filters, items: np.ndarray) -> np.ndarray | None:
        """Bool [n]: which of the rows `items` int32 [n] pass; None where the filters let everything
        through.

        Raises UserError for an age where the version knows no item's time of creation.
        """
        # Stays None for most requests: they filter nothing, and nothing is copied.
        keep = None
        # An empty list counts, too: whoever allows no topic gets nothing.
        if filters.allow_topics is not None:
            keep = self._has(filters.allow_topics, items)
        if filters.deny_topics:
            allowed = ~self._has(filters.deny_topics, items)
            keep = allowed if keep is None else keep & allowed
        if filters.max_age_hours is not None:
            # Without this error every item would be left out, and nobody would know why.
            if self.created is None:
                raise UserError(
                    "filters.max_age_hours: no item of this version has a time of creation. Leave "
                    "it out."
                )
            youngest = datetime.now(UTC).timestamp() - 3600 * filters.max_age_hours
            young = self.created[items] >= youngest  # NaN is not
            keep = young if keep is None else keep & young
        return keep

    def topics_of(self, row: int, level: str = "l2") -> list[str]:
        """An item's topics of level "l1" or "l2"."""
        return self.topics[level][row].as_py() or []

    async def find(self, text: str, limit: int) -> list[int]:
        """Rows of the first items whose title or id contains `text`, in any case; in a thread, as
        it reads all.
        """

        def search() -> list[int]:
            rows = pc.indices_nonzero(pc.match_substring(self.searched, text.lower()))
            return [int(row) for row in rows[:limit].to_pylist()]

        return await asyncio.to_thread(search)

    def _has(self, topics: list[str], items: np.ndarray) -> np.ndarray:
        marked = np.zeros(len(self.item_ids), bool)
        for topic in topics:
            if (rows := self.rows_of_topic.get(topic)) is not None:
                marked[rows] = True
        return marked[items]


def _rows_of_topic(items: pa.Table) -> dict[str, np.ndarray]:
    """Rows of each topic, of either level."""
    names, numbers = [], []
    for column in ("l1_topics", "l2_topics"):
        lists = items[column].combine_chunks()
        names.append(pc.list_flatten(lists).cast(pa.string()))
        numbers.append(pc.list_parent_indices(lists).cast(pa.int32()))
    table = pa.table({"topic": pa.concat_arrays(names), "row": pa.concat_arrays(numbers)})
    grouped = (
        table.filter(pc.is_valid(table["topic"])).group_by("topic").aggregate([("row", "list")])
    )
    return {
        topic: rows.values.to_numpy()
        for topic, rows in zip(grouped["topic"].to_pylist(), grouped["row_list"], strict=True)
    }
