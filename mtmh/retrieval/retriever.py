"""The offline retriever: triggers to candidates per head, to a user's pool per head, to the merge (paper section 6)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.heads import HEADS
from mtmh.model.preranker import Preranker
from mtmh.retrieval.index import on_gpu, search
from mtmh.retrieval.merge import ENGAGEMENT, Merged, quota_merge
from mtmh.retrieval.pool import pool_candidates, probabilities
from mtmh.retrieval.version import verify

Csr = tuple[np.ndarray, np.ndarray]  # indptr int64 [users + 1], items int32 [indptr[-1]]


@dataclass(frozen=True)
class Pool:
    """Ranked lists of U users, best first; item -1 where a list ends."""

    item: np.ndarray  # int32 [U, size]
    score: np.ndarray  # float32 [U, size], falling within a head
    trigger: np.ndarray  # int32 [U, size], the item that retrieved it
    head: np.ndarray  # int8 [U, size], as in merge; -1 where there is no item


@dataclass(frozen=True)
class Retriever:
    """One version, loaded: item table, an index per head and the vectors it was built from."""

    items: pa.Table
    vectors: dict[str, np.ndarray]  # head -> float32 [items, d], unit rows
    indexes: dict[str, faiss.Index]
    content: np.ndarray  # float32 [items, c]
    preranker: Preranker | None = None  # where the version has one

    @classmethod
    def load(cls, version: Path) -> "Retriever":
        """Read a version directory; checksums first. Raises UserError when they do not agree."""
        verify(version)
        heads = [head for head in HEADS if (version / f"{head}.faiss").exists()]
        return cls(
            items=pq.read_table(version / "items.parquet"),
            vectors={head: np.load(version / f"{head}.npy") for head in heads},
            indexes={head: on_gpu(faiss.read_index(str(version / f"{head}.faiss"))) for head in heads},
            content=np.load(version / "content.npy"),
            preranker=Preranker.load(version) if (version / "preranker.json").exists() else None,
        )

    def similar_items(self, items: np.ndarray, k: int, head: str) -> tuple[np.ndarray, np.ndarray]:
        """Candidates of each trigger by one head: ids int32 and scores float32 (cosine), both [B, k], best first."""
        return search(self.indexes[head], self.vectors[head], items, k)

    def pool(self, head: str, triggers: Csr, seen: Csr, k_ann: int, size: int, temperature: float) -> Pool:
        """One head's ranked list for each user, from the `k_ann` nearest items of every trigger (see `pool_lists`).

        With a preranker its first candidates are ranked anew (see `prerank`); `triggers`, newest first, are the history
        that it reads.
        """
        pool = pool_lists(
            lambda items: self.similar_items(items, k_ann, head),
            triggers,
            seen,
            self.depth(size),
            len(self.items),
            temperature,
            HEADS.index(head),
        )
        return pool if self.preranker is None else prerank(pool, self.preranker.logits(triggers, pool.item), size)

    def depth(self, size: int) -> int:
        """Candidates of a head that a list of `size` is chosen from."""
        return size if self.preranker is None else max(size, self.preranker.candidates)


def pool_lists(
    search_lists: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    triggers: Csr,
    seen: Csr,
    size: int,
    n_items: int,
    temperature: float,
    head: int = ENGAGEMENT,
) -> Pool:
    """Search each distinct trigger once, then rank each user's candidates by p(candidate | user).

    That is the mean over the user's triggers of p(candidate | trigger), the softmax at `temperature` over the trigger's
    list. `search_lists` takes triggers int32 [B] and returns ids int32 and scores float32, both [B, k], best first.
    """
    distinct = np.unique(triggers[1])
    list_of = np.full(n_items, -1, dtype=np.int64)
    list_of[distinct] = np.arange(len(distinct))
    ids, scores = search_lists(distinct)
    votes = probabilities(scores, temperature)
    item, total, trigger = pool_candidates(*triggers, list_of, ids, scores, votes, *seen, size, n_items)
    score = total / np.maximum(np.diff(triggers[0]), 1)[:, None].astype(np.float32)
    return Pool(item, score, trigger, np.where(item >= 0, head, -1).astype(np.int8))


def prerank(pool: Pool, logits: np.ndarray, size: int, users: int = 2048) -> Pool:
    """The first `size` of each user's candidates by p(candidate | user) of retrieval times exp(logit).

    That product of experts, normalized over the candidates in `pool`, is their score. Each head's pool is ranked on its
    own (paper section 5): a joint ranking would drop what is relevant and less engaging, which the merge is there to
    keep. `logits` float32 [U, K], one a candidate; equal candidates keep their order.
    """
    parts = []
    for start in range(0, len(logits), users):
        rows = slice(start, start + users)
        there, tiny = pool.item[rows] >= 0, np.finfo(np.float32).tiny
        known = np.log(np.maximum(pool.score[rows], tiny)) + logits[rows]
        known = np.where(there, known - known.max(axis=1, keepdims=True, initial=-np.inf, where=there), -np.inf)
        best = np.argsort(-known, axis=1, kind="stable")[:, :size]
        weight = np.exp(known)
        score = np.where(there, weight / np.maximum(weight.sum(axis=1, keepdims=True), tiny), -np.inf)
        columns = pool.item[rows], score.astype(np.float32), pool.trigger[rows], pool.head[rows]
        parts.append([np.take_along_axis(column, best, axis=1) for column in columns])
    return Pool(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def merge_pools(engagement: Pool, relevance: Pool, alpha: float, size: int, users: int = 2048) -> Pool:
    """The quota merge of both heads' pools, with each candidate's score and trigger in the head that it came from."""
    parts = []
    for start in range(0, len(engagement.item), users):
        rows = slice(start, start + users)
        merged = quota_merge(engagement.item[rows], relevance.item[rows], alpha, size)
        score, trigger = (
            _provenance(merged, getattr(engagement, name)[rows], getattr(relevance, name)[rows])
            for name in ("score", "trigger")
        )
        parts.append((merged.item, score, np.where(merged.item >= 0, trigger, -1), merged.head))
    return Pool(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _provenance(merged: Merged, engagement: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Values [R, K] of the merged candidates, each from its own head's list."""
    place = np.maximum(merged.rank, 0)
    from_engagement = np.take_along_axis(engagement, np.minimum(place, engagement.shape[1] - 1), axis=1)
    from_relevance = np.take_along_axis(relevance, np.minimum(place, relevance.shape[1] - 1), axis=1)
    return np.where(merged.head == ENGAGEMENT, from_engagement, from_relevance)
