"""The retriever as the server of the living platform, in this process."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from mtmh.config import RetrievalSettings
from mtmh.errors import UserError
from mtmh.experiment.arms import Arm
from mtmh.heads import HEADS
from mtmh.ids import Ids
from mtmh.ragged import Ragged
from mtmh.retrieval.merge import quota_merge
from mtmh.retrieval.retriever import Lists, Request, Retriever
from simulation.server import Slates

AddItems = Callable[[Retriever, pa.Table], Retriever]


class LocalServer:
    """Answers as the router does, without it: the same candidates, quotas and scores.

    Arguments: `retriever` and its `settings`; `items`, the world's item table, row = number; the
    `arms`, each with its alpha or quotas; `add_new`, which returns a retriever that also holds
    the items given (without it no item is added). Every item's candidates are kept: 12 bytes x
    k_ann x items and channel. Raises UserError where the version has no channel that an arm names.
    """

    def __init__(
        self,
        retriever: Retriever,
        settings: RetrievalSettings,
        items: pa.Table,
        arms: Sequence[Arm],
        add_new: AddItems | None = None,
    ) -> None:
        self.settings, self.items, self.add_new = settings, items, add_new
        self.quotas = [_quotas(retriever, arm) for arm in arms]
        self.refreshed = 0  # times that items were added
        self._hold(retriever)

    def answer(self, users: np.ndarray, triggers: Ragged, arms: np.ndarray, k: int) -> Slates:
        """See simulation.server.Server."""
        # Items that are not served yet cannot be triggers: they drop out here.
        history = rows_of(triggers, self.row_of, self.settings.triggers)
        shape = (len(users), k)
        slates = Slates(
            item=np.full(shape, -1, np.int32),
            head=np.full(shape, -1, np.int8),
            head_rank=np.zeros(shape, np.int32),
            score=np.zeros(shape, np.float32),
            trigger=np.full(shape, -1, np.int32),
            degraded=np.zeros(len(users), bool),
            version=np.full(len(users), f"in-process-{self.refreshed}"),
            channels=tuple(self.retriever.names),
        )
        # Arm by arm, since one merge has the same quotas for all.
        for arm in np.unique(arms):
            rows = np.flatnonzero(arms == arm)
            self._fill(slates, rows, history.take(rows), self.quotas[arm], k)
        return slates

    def refresh(self, items: int) -> None:
        """Take in those of the first `items` that are not served yet."""
        new = np.flatnonzero(self.row_of[:items] < 0)
        if self.add_new is not None and len(new):
            self.refreshed += 1
            self._hold(self.add_new(self.retriever, self.items.take(pa.array(new))))

    def _hold(self, retriever: Retriever) -> None:
        self.retriever = retriever
        self.item_of, self.row_of = numbers(retriever.items["item_id"], self.items["item_id"])
        rows = np.arange(len(retriever.items), dtype=np.int32)
        depth = min(self.settings.k_ann, len(rows) - 1)
        self.lists = {name: retriever.similar_items(rows, depth, name) for name in retriever.names}

    def _stored(self, items: np.ndarray, k: int, channel: str) -> Lists:
        """As Retriever.similar_items, which searches every time; `k` is that of all lists
        here."""
        ids, scores = self.lists[channel]
        return ids[items], scores[items]

    def _fill(
        self, slates: Slates, rows: np.ndarray, history: Ragged, quotas: dict[str, float], k: int
    ) -> None:
        """Write the answers of one arm's users, int [n], into their rows."""
        settings = self.settings
        request = Request(history, history.sorted(), settings.k_ann, k, settings.temperature)
        with_quota = [name for name, quota in quotas.items() if quota]
        pools = self.retriever.pools(request, self._stored, with_quota)
        # A channel without a quota is asked only where the others leave a list short.
        if len(pools) < len(quotas) and any((pool.item < 0).any() for pool in pools.values()):
            pools = self.retriever.pools(request, self._stored)
        columns = list(pools.values())
        merged = quota_merge([pool.item for pool in columns], [quotas[name] for name in pools], k)
        trigger = merged.take([pool.trigger for pool in columns], -1)
        slates.item[rows] = self._numbers(merged.item)
        slates.head[rows] = merged.take([pool.channel for pool in columns], -1)
        slates.head_rank[rows] = merged.rank + 1
        slates.score[rows] = merged.take([pool.score for pool in columns], 0.0)
        slates.trigger[rows] = self._numbers(trigger)

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        """The world's numbers of a version's rows, -1 where there is none."""
        return np.where(rows >= 0, self.item_of[np.maximum(rows, 0)], -1)


def _quotas(retriever: Retriever, arm: Arm) -> dict[str, float]:
    """Channel -> percent, as the arm has them."""
    names = retriever.names
    if arm.quotas is not None:
        if unknown := sorted(set(arm.quotas) - set(names)):
            raise UserError(
                f"arm {arm.name!r} names the channel {unknown[0]!r}; the version has"
                f" {', '.join(names)}."
            )
        return {name: arm.quotas.get(name, 0.0) for name in names}
    if arm.alpha is None:
        return {channel.name: channel.quota for channel in retriever.channels}
    if len(names) < 2 or "engagement" not in names:
        missing = next(head for head in HEADS if head not in names)
        raise UserError(f"the version has no {missing} head: arms that differ in alpha need both.")
    return dict(zip(names, retriever.quotas(arm.alpha), strict=True))


def numbers(item_ids: pa.ChunkedArray, world: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Between a version's rows and the world's numbers: item_of int32 [rows], row_of int32 [items],
    -1 for none.

    Raises UserError when the version holds an item that is not of this world.
    """
    item_of = Ids(world).rows(item_ids)
    if (item_of < 0).any():
        foreign = item_ids[int((item_of < 0).argmax())].as_py()
        raise UserError(
            f"the version holds item {foreign!r}, which is not of this world:"
            " give a run of the same world."
        )
    row_of = np.full(len(world), -1, np.int32)
    row_of[item_of] = np.arange(len(item_of), dtype=np.int32)
    return item_of, row_of


def rows_of(triggers: Ragged, row_of: np.ndarray, most: int) -> Ragged:
    """The triggers that are served, as rows: the first `most` of each user's."""
    rows = row_of[triggers.values]
    return Ragged(triggers.indptr, rows).where(rows >= 0).take(slice(None), most)
