"""The retriever as the server of the living platform, in this process."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.config import RetrievalSettings
from mtmh.errors import UserError
from mtmh.experiment.arms import Arm
from mtmh.heads import HEADS
from mtmh.retrieval.merge import ENGAGEMENT, RELEVANCE, quota_merge
from mtmh.retrieval.retriever import Pool, Retriever, pool_lists, prerank
from simulation.server import Csr, Slates

AddItems = Callable[[Retriever, pa.Table], Retriever]


class LocalServer:
    """Answers as the router does, without it: the same candidates, quotas and scores.

    Arguments: `retriever` with both heads and its `settings`; `items`, the world's item table, row = number; the
    `arms`, each with its alpha; `add_new`, which returns a retriever that also holds the items given (without it no
    item is added). Every item's candidates are kept: 12 bytes x k_ann x items and head. Raises UserError when a head is
    missing.
    """

    def __init__(
        self,
        retriever: Retriever,
        settings: RetrievalSettings,
        items: pa.Table,
        arms: Sequence[Arm],
        add_new: AddItems | None = None,
    ) -> None:
        if missing := [head for head in HEADS if head not in retriever.indexes]:
            raise UserError(f"the version has no {missing[0]} head: arms that differ in alpha need both.")
        self.settings, self.items, self.add_new = settings, items, add_new
        self.alphas = np.array([arm.alpha for arm in arms], np.float64)
        self.refreshed = 0  # times that items were added
        self._hold(retriever)

    def answer(self, users: np.ndarray, triggers: Csr, arms: np.ndarray, k: int) -> Slates:
        """See simulation.server.Server."""
        asked = rows_of(triggers, self.row_of, self.settings.triggers)
        shape = (len(users), k)
        slates = Slates(
            item=np.full(shape, -1, np.int32),
            head=np.full(shape, -1, np.int8),
            head_rank=np.zeros(shape, np.int32),
            score=np.zeros(shape, np.float32),
            trigger=np.full(shape, -1, np.int32),
            degraded=np.zeros(len(users), bool),
            version=np.full(len(users), f"in-process-{self.refreshed}"),
        )
        for arm in np.unique(arms):
            rows, alpha = np.flatnonzero(arms == arm), float(self.alphas[arm])
            self._merge(slates, rows, self._pools(_of(asked, rows), alpha, k), alpha, k)
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
        self.lists = {head: retriever.similar_items(rows, depth, head) for head in HEADS}

    def _pools(self, triggers: Csr, alpha: float, k: int) -> list[Pool]:
        """Each head's; where all candidates are the engagement head's, the relevance head need not be asked."""
        engagement = self._pool(HEADS[ENGAGEMENT], triggers, k)
        if alpha == 100 and (engagement.item[:, :k] >= 0).all():
            return [engagement, engagement]
        return [engagement, self._pool(HEADS[RELEVANCE], triggers, k)]

    def _pool(self, head: str, triggers: Csr, k: int) -> Pool:
        """As Retriever.pool, which searches anew every time."""
        ids, scores = self.lists[head]
        number, size = HEADS.index(head), self.retriever.depth(k)
        seen = triggers[0], _sorted_rows(triggers)
        temperature, n_items = self.settings.temperature, len(self.retriever.items)
        pool = pool_lists(lambda items: (ids[items], scores[items]), triggers, seen, size, n_items, temperature, number)
        ranker = self.retriever.preranker
        return pool if ranker is None else prerank(pool, ranker.logits(triggers, pool.item), k)

    def _merge(self, slates: Slates, rows: np.ndarray, pools: list[Pool], alpha: float, k: int) -> None:
        merged = quota_merge(pools[ENGAGEMENT].item, pools[RELEVANCE].item, alpha, k)
        place, there = np.maximum(merged.rank, 0), merged.item >= 0
        chosen = merged.head == RELEVANCE
        score, trigger = (
            np.where(chosen, *(np.take_along_axis(getattr(pools[head], name), place, axis=1) for head in (1, 0)))
            for name in ("score", "trigger")
        )
        slates.item[rows] = np.where(there, self.item_of[np.maximum(merged.item, 0)], -1)
        slates.head[rows] = merged.head
        slates.head_rank[rows] = merged.rank + 1
        slates.score[rows] = np.where(there, score, 0.0)
        slates.trigger[rows] = np.where(there, self.item_of[np.maximum(trigger, 0)], -1)


def numbers(known: pa.ChunkedArray, world: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Between a version's rows and the world's numbers: item_of int32 [rows], row_of int32 [items], -1 for none.

    Raises UserError when the version holds an item that is not of this world.
    """
    item = pc.index_in(known, value_set=world.combine_chunks())
    if item.null_count:
        alien = known[item.to_pylist().index(None)].as_py()
        raise UserError(f"the version holds item {alien!r}, which is not of this world: give a run of the same world.")
    item_of = np.asarray(item).astype(np.int32)
    row_of = np.full(len(world), -1, np.int32)
    row_of[item_of] = np.arange(len(item_of), dtype=np.int32)
    return item_of, row_of


def rows_of(triggers: Csr, row_of: np.ndarray, most: int) -> Csr:
    """The triggers that are served, as rows: the first `most` of each user's."""
    indptr, items = triggers
    user = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    row = row_of[items]
    user, row = user[row >= 0], row[row >= 0]
    start = np.searchsorted(user, np.arange(len(indptr)))
    kept = np.arange(len(user)) - start[user] < most
    user, row = user[kept], row[kept]
    return np.searchsorted(user, np.arange(len(indptr))).astype(np.int64), row


def _of(triggers: Csr, users: np.ndarray) -> Csr:
    """Those of some users, int [n] in order."""
    indptr, items = triggers
    counts = np.diff(indptr)
    chosen = np.isin(np.repeat(np.arange(len(counts)), counts), users)
    return np.concatenate([[0], np.cumsum(counts[users])]).astype(np.int64), items[chosen]


def _sorted_rows(triggers: Csr) -> np.ndarray:
    indptr, items = triggers
    user = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return items[np.lexsort((items, user))]
