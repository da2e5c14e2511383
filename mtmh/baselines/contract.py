"""The contract of every baseline: what it may learn from, and how it answers.

A baseline is fitted on T1 by a function (`TrainData` and its settings to a `Baseline`) and answers
item to item. All else, from lists to metrics, is the project's own protocol, the same for all.
Three forms of an answer are enough: a product of vectors, a matrix of scores, one list for all.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from scipy.sparse import csr_matrix, issparse

from mtmh.data.pair_source import PairFile
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.model.catalog import Catalog
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Lists
from mtmh.retrieval.scoring import NOTHING, drop_self

ROWS = 512  # triggers whose scores with the whole catalog are in memory at a time


class Baseline(Protocol):
    """A fitted model. `tests/baselines/test_baseline_contract.py` holds every one of them to it."""

    @property
    def parameters(self) -> int:
        """How many numbers it learned from T1."""
        ...

    def similar_items(self, triggers: np.ndarray, k: int) -> Lists:
        """The `k` best candidates of each trigger, int32 [B]: ids int32 and scores float32 [B, k].

        Best first and never the trigger itself; id -1 and score -inf from where a list ends.
        """
        ...


@dataclass(frozen=True)
class TrainData:
    """T1, and what there is of the items: all that a baseline is fitted on."""

    history: Ragged  # a row a user, int32, the distinct items of T1, newest engagement first
    events: np.ndarray  # int32 [events of T1], their items in the order of time
    content: np.ndarray  # float32 [items, c], unit rows, zero for an item without content
    catalog: Catalog  # the same features that the heads read
    pairs: PairFile  # the same pairs that the heads are trained on

    @classmethod
    def load(cls, data: Prepared, features: Path, content: Path, pairs: Path) -> "TrainData":
        """From the folders that the stages features, content and pairs left."""
        return cls(
            history=data.train_histories(),
            events=data.item[data.is_train],
            content=np.load(content / "content.npy"),
            catalog=Catalog.load(data, features),
            pairs=PairFile(pairs / "pairs.parquet"),
        )

    @property
    def n_items(self) -> int:
        """Size of the catalog, cold items too."""
        return len(self.content)

    @property
    def warm_items(self) -> np.ndarray:
        """What T1 engages with, int32, ascending: all that a model of ids alone can retrieve."""
        return np.unique(self.events)

    def require_content(self, name: str) -> np.ndarray:
        """`content`. Raises UserError where no item of the data has any."""
        if not self.content.any():
            raise UserError(
                f"the baseline {name} reads what items are about, and no item has a title or text."
                f" Add a title column to items, or leave {name} out with --models."
            )
        return self.content


@dataclass(frozen=True)
class VectorSearch:
    """Candidates by inner product, exact: the lists owe nothing to an index."""

    queries: np.ndarray  # float32 [items, d], a row each trigger
    keys: np.ndarray  # float32 [items, d], a row each candidate
    candidates: np.ndarray  # int32 [m], ascending, the rows of `keys` that may be retrieved
    parameters: int = 0  # learned ones, those of a network behind the vectors

    def similar_items(self, triggers: np.ndarray, k: int) -> Lists:
        """See `Baseline`."""
        index = faiss.IndexFlatIP(self.keys.shape[1])
        index.add(np.ascontiguousarray(self.keys[self.candidates]))
        # One more than asked for: a trigger may be its own nearest neighbour.
        scores, rows = index.search(np.ascontiguousarray(self.queries[triggers]), k + 1)
        ids = np.where(rows >= 0, self.candidates[rows], -1).astype(np.int32)
        return drop_self(ids, scores, triggers)


@dataclass(frozen=True)
class ScoreMatrix:
    """Candidates by the positive scores of a trigger's row."""

    matrix: csr_matrix | np.ndarray  # float32 [items, items]: row = trigger, column = candidate

    @property
    def parameters(self) -> int:
        """The scores that are not 0."""
        return int(np.count_nonzero(self.matrix.data if issparse(self.matrix) else self.matrix))

    def similar_items(self, triggers: np.ndarray, k: int) -> Lists:
        """See `Baseline`. What scores 0 or less is no candidate."""
        ids = np.full((len(triggers), k), -1, np.int32)
        scores = np.full((len(triggers), k), NOTHING)
        depth = min(k, self.matrix.shape[1])
        for start in range(0, len(triggers), ROWS):
            block = triggers[start : start + ROWS]
            rows = self.matrix[block]
            dense = rows.toarray() if issparse(rows) else rows.copy()
            dense[np.arange(len(block)), block] = 0
            # The best ones, in the order of the catalog, then by score: ties stay in that order.
            best = np.argpartition(-dense, depth - 1, axis=1)[:, :depth]
            best.sort(axis=1)
            score = np.take_along_axis(dense, best, axis=1)
            order = np.argsort(-score, axis=1, kind="stable")
            score = np.take_along_axis(score, order, axis=1)
            listed = np.take_along_axis(best, order, axis=1)
            ids[start : start + ROWS, :depth] = np.where(score > 0, listed, -1)
            scores[start : start + ROWS, :depth] = np.where(score > 0, score, NOTHING)
        return ids, scores


@dataclass(frozen=True)
class OneList:
    """The same candidates whatever the trigger."""

    score: np.ndarray  # float32 [items]; what scores 0 is no candidate

    @property
    def parameters(self) -> int:
        """A score an item."""
        return len(self.score)

    def similar_items(self, triggers: np.ndarray, k: int) -> Lists:
        """See `Baseline`."""
        ranked = np.argsort(-self.score, kind="stable")[: k + 1].astype(np.int32)
        ranked = ranked[self.score[ranked] > 0]
        # Room for a list that is longer than the catalog.
        row, score = np.full(k + 1, -1, np.int32), np.full(k + 1, NOTHING)
        row[: len(ranked)], score[: len(ranked)] = ranked, self.score[ranked]
        shape = len(triggers), k + 1
        return drop_self(np.broadcast_to(row, shape), np.broadcast_to(score, shape), triggers)
