"""The offline retriever: triggers to a pool per channel, pools to a merged list
(paper section 6).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.config import RetrievalSettings
from mtmh.model.preranker import Preranker
from mtmh.ragged import Ragged
from mtmh.retrieval.channel_items import allowed_rows
from mtmh.retrieval.channels import Channel, channels_in
from mtmh.retrieval.index import on_gpu, search, search_within
from mtmh.retrieval.merge import quota_merge, quotas_at
from mtmh.retrieval.scoring import (
    Pooling,
    preranker_logits,
    rank_normalize,
    softmax_over_list,
)
from mtmh.retrieval.version import verify

USERS = 256  # whose candidates are preranked at once: USERS x 1000 x dim floats are gathered
Lists = tuple[np.ndarray, np.ndarray]  # ids int32 and scores float32 [B, k], best first
Search = Callable[[np.ndarray, int, str], Lists]  # triggers int32 [B], k and channel to their lists


@dataclass(frozen=True)
class Pool:
    """Ranked lists of U users, best first; item -1 where a list ends."""

    item: np.ndarray  # int32 [U, size]
    score: np.ndarray  # float32 [U, size], falling within a channel
    trigger: np.ndarray  # int32 [U, size], the item that retrieved it
    channel: np.ndarray  # int8 [U, size], place in Retriever.channels; -1 where there is no item


@dataclass(frozen=True)
class Request:
    """What U users are to get candidates for."""

    triggers: Ragged  # U rows of int32 items, newest first; the history that a preranker reads
    seen: Ragged  # U rows of int32 items, not to be retrieved again
    k_ann: int  # nearest items of every trigger
    size: int  # of a user's list
    temperature: float  # of p(candidate | trigger)

    @classmethod
    def of(cls, triggers: Ragged, seen: Ragged, settings: RetrievalSettings) -> "Request":
        """As the stages retrieve."""
        return cls(triggers, seen, settings.k_ann, settings.pool, settings.temperature)


@dataclass(frozen=True)
class Retriever:
    """One version, loaded: item table, an index per head and the vectors it was built from.

    A channel is a named source of candidates; a request's alpha changes the quotas that they have.
    """

    items: pa.Table
    channels: tuple[Channel, ...]
    vectors: dict[str, np.ndarray]  # channel -> float32 [items, d], unit rows; one a head
    indexes: dict[str, faiss.Index]
    content: np.ndarray  # float32 [items, c]
    preranker: Preranker | None = None  # where the version has one

    @classmethod
    def load(cls, version: Path) -> "Retriever":
        """Read a version directory; checksums first. Raises UserError when they do not agree."""
        channels = channels_in(verify(version))
        # Channels of one head share its index and its vectors.
        heads = dict.fromkeys(channel.head for channel in channels)
        indexes = {head: faiss.read_index(str(version / f"{head}.faiss")) for head in heads}
        vectors = {head: np.load(version / f"{head}.npy") for head in heads}
        has_preranker = (version / "preranker.json").exists()
        return cls(
            items=pq.read_table(version / "items.parquet"),
            channels=channels,
            vectors={channel.name: vectors[channel.head] for channel in channels},
            indexes=searched(channels, indexes),
            content=np.load(version / "content.npy"),
            preranker=Preranker.load(version) if has_preranker else None,
        )

    def similar_items(self, items: np.ndarray, k: int, channel: str) -> Lists:
        """Candidates of each trigger by one channel: ids int32, scores float32 (cosine), [B, k]."""
        index, vectors = self.indexes[channel], self.vectors[channel]
        if (allowed := self.allowed[channel]) is None:
            return search(index, vectors, items, k)
        return search_within(index, vectors[items], allowed, items, k)

    @cached_property
    def allowed(self) -> dict[str, np.ndarray | None]:
        """Channel -> the only rows that it gives, int32 ascending; None: all."""
        return {channel.name: allowed_rows(channel, self.items) for channel in self.channels}

    def recommend(self, request: Request, alpha: float) -> Pool:
        """Each user's merged list, `alpha` percent from the engagement head (see `quota_merge`)."""
        pools = self.pools(request)
        return merge_pools(list(pools.values()), self.quotas(alpha), request.size)

    def quotas(self, alpha: float) -> tuple[float, ...]:
        """Of each channel, in percent, where the engagement head has `alpha`."""
        default = [channel.quota for channel in self.channels]
        return quotas_at(alpha, self.names, default)

    @property
    def names(self) -> list[str]:
        """Of the channels, by their numbers."""
        return [channel.name for channel in self.channels]

    def pools(
        self,
        request: Request,
        search_lists: Search | None = None,
        channels: Sequence[str] | None = None,
    ) -> dict[str, Pool]:
        """Each channel's ranked list for each user, from the nearest items of every trigger.

        With a preranker, a channel's first candidates are ranked again, each channel's alone (paper
        section 5): a joint ranking would drop what is relevant and less engaging, which the merge
        is there to keep. `search_lists` stands in for `similar_items`; `channels`: all of them by
        default.
        """
        search_lists = search_lists or self.similar_items
        k = min(request.k_ann, len(self.items) - 1)
        ranker, depth = self.preranker, self.depth(request.size)
        # Users share triggers: each distinct one is searched for once.
        distinct = np.unique(request.triggers.values)
        pools = {}
        for channel in channels or self.indexes:
            lists = search_lists(distinct, k, channel)
            number = self.names.index(channel)
            pool = pool_lists(distinct, lists, request, depth, len(self.items), number)
            if ranker is not None:
                logits = candidate_logits(ranker, request.triggers, pool.item)
                pool = prerank(pool, logits, request.size)
            pools[channel] = pool
        return pools

    def depth(self, size: int) -> int:
        """Candidates of a channel that a list of `size` is chosen from."""
        return size if self.preranker is None else max(size, self.preranker.candidates)


def searched(
    channels: Sequence[Channel], indexes: Mapping[str, faiss.Index]
) -> dict[str, faiss.Index]:
    """Channel -> its head's index, of `indexes` by head, on a GPU where there is one.

    Faiss searches within some items on the CPU alone, so a restricted channel's stays there.
    """
    plain = dict.fromkeys(channel.head for channel in channels if channel.items is None)
    on_device = {head: on_gpu(indexes[head]) for head in plain}
    return {c.name: indexes[c.head] if c.items else on_device[c.head] for c in channels}


def pool_lists(
    distinct: np.ndarray,
    lists: Lists,
    request: Request,
    size: int,
    n_items: int,
    channel: int = 0,
) -> Pool:
    """Each user's first `size` candidates by p(candidate | user), of one channel.

    That is the mean over the user's triggers of p(candidate | trigger), the softmax over the
    trigger's list. `lists` are those of the `distinct` triggers, int32 [B].
    """
    # The loop over users looks a trigger's list up by its item.
    list_of = np.full(n_items, -1, dtype=np.int64)
    list_of[distinct] = np.arange(len(distinct))
    votes = softmax_over_list(lists[1], request.temperature)
    triggers = request.triggers
    item, total, trigger = pool_users(triggers, request.seen, list_of, *lists, votes, size)
    score = total / np.maximum(triggers.lengths, 1)[:, None].astype(np.float32)
    return Pool(item, score, trigger, np.where(item >= 0, channel, -1).astype(np.int8))


def pool_users(
    triggers: Ragged,
    seen: Ragged,
    list_of: np.ndarray,
    ids: np.ndarray,
    scores: np.ndarray,
    votes: np.ndarray,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triggers' candidates by the sum of their votes, without `seen`: the first `size` a user.

    See `Pooling`. A candidate's trigger is the one that retrieved it with the best score.

    Arguments: `triggers` and `seen`, int32 items of U users; `list_of` int64 [items], the row of
    `ids` that holds a trigger's candidates; `ids` int32 [lists, k], -1 from where a list ends, with
    their `scores` (similarities) and `votes`, float32 [lists, k]. Returns item int32, sum of votes
    float32 and trigger int32, each [U, size]; -1, -inf and -1 where a pool ends early. The cost is
    that of the lists read: a compiled loop took half of it, and 15 s to compile.
    """
    users = triggers.rows
    item = np.full((users, size), -1, dtype=np.int32)
    total = np.full((users, size), -np.inf, dtype=np.float32)
    trigger = np.full((users, size), -1, dtype=np.int32)
    # One scratch memory for all users: it has the size of the catalog.
    pooling = Pooling(len(list_of))
    for user in range(users):
        history = triggers.values[triggers.indptr[user] : triggers.indptr[user + 1]]
        hidden = seen.values[seen.indptr[user] : seen.indptr[user + 1]]
        rows = list_of[history]
        best, votes_of, _, source = pooling.rank(ids[rows], scores[rows], votes[rows], hidden, size)
        item[user, : len(best)] = best
        total[user, : len(best)] = votes_of
        trigger[user, : len(best)] = history[source]
    return item, total, trigger


def candidate_logits(ranker: Preranker, history: Ragged, item: np.ndarray) -> np.ndarray:
    """What the preranker says of each user's candidates, float32 [U, K]; `item` int32 [U, K].

    `history`: each user's items, newest first. See `preranker_logits`.
    """
    tables = {task: table.numpy() for task, table in ranker.items.items()}
    # In blocks of users, as the candidates' vectors are gathered.
    blocks = [np.zeros((0, item.shape[1]), np.float32)]
    for start in range(0, len(item), USERS):
        rows = slice(start, start + USERS)
        vectors = ranker.users(history.take(rows))
        users = {task: vector.numpy() for task, vector in vectors.items()}
        logits = preranker_logits(item[rows], users, tables, ranker.weights, ranker.new.numpy())
        blocks.append(logits)
    return np.concatenate(blocks)


def prerank(pool: Pool, logits: np.ndarray, size: int, users: int = 2048) -> Pool:
    """The first `size` of each user's candidates, ranked by `rank_normalize`.

    `logits` float32 [U, K], one a candidate.
    """
    # In blocks of users: what is held besides the result does not grow with their number.
    parts = []
    for start in range(0, max(len(logits), 1), users):
        rows = slice(start, start + users)
        item = pool.item[rows]
        order, score = rank_normalize(pool.score[rows], logits[rows], item >= 0)
        columns = (item, pool.trigger[rows], pool.channel[rows])
        ranked = [np.take_along_axis(column, order[:, :size], axis=1) for column in columns]
        parts.append(Pool(ranked[0], score[:, :size], *ranked[1:]))
    return _concatenated(parts)


def merge_pools(
    pools: Sequence[Pool],
    quotas: Sequence[float],
    size: int,
    users: int = 2048,
) -> Pool:
    """The quota merge of the channels' pools, each candidate with what its own
    channel says of it.
    """
    parts = []
    for start in range(0, max(len(pools[0].item), 1), users):
        rows = slice(start, start + users)
        merged = quota_merge([pool.item[rows] for pool in pools], quotas, size)
        score = merged.take([pool.score[rows] for pool in pools], -np.inf)
        trigger = merged.take([pool.trigger[rows] for pool in pools], -1)
        channel = merged.take([pool.channel[rows] for pool in pools], -1)
        parts.append(Pool(merged.item, score, trigger, channel))
    return _concatenated(parts)


def _concatenated(parts: Sequence[Pool]) -> Pool:
    names = ("item", "score", "trigger", "channel")
    return Pool(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
