"""The champion's lists for today's test users: an older version, over a catalog that may have been another."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.config import RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.heads import HEADS
from mtmh.retrieval.retriever import Csr, Pool, Retriever, merge_pools, pool_lists, prerank
from mtmh.retrieval.version import MANIFEST, verify

OTHER_DATA = 0.01  # share of T1's items that a champion of an older catalog of the same data still knows, at least


def is_of_other_data(version: Path, data: Prepared) -> bool:
    """Whether the version at `version` knows next to none of the items that T1 engages with."""
    item_ids = pq.read_table(version / "items.parquet", columns=["item_id"])["item_id"]
    engaged = data.items["item_id"].take(pa.array(np.unique(data.item[data.is_train])))
    return bool((_numbers_in(item_ids, engaged) >= 0).mean() < OTHER_DATA)


def champion_pools(
    version: Path, data: Prepared, triggers: Csr, seen: Csr, settings: RetrievalSettings
) -> tuple[Pool, dict[str, Any]]:
    """The champion's merge at the serving alpha in today's item numbers, and {"version", "fingerprint"}.

    Items that the champion does not know retrieve nothing and are not retrieved: what a user would see, were it
    served today. `triggers` and `seen` are of the test users.
    """
    manifest = verify(version)
    champion = Retriever.load(version)
    to_champion = _numbers_in(champion.items["item_id"], data.items["item_id"])
    to_today = _numbers_in(data.items["item_id"], champion.items["item_id"])
    k_ann = min(settings.k_ann, len(champion.items) - 1)

    def lists(head: str, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = np.full((len(items), k_ann), -1, dtype=np.int32)
        scores = np.full((len(items), k_ann), -np.inf, dtype=np.float32)
        known = to_champion[items] >= 0
        found, score = champion.similar_items(to_champion[items[known]], k_ann, head)
        ids[known] = np.where(found >= 0, to_today[found], -1)
        scores[known] = np.where(ids[known] >= 0, score, -np.inf)
        order = np.argsort(ids < 0, axis=1, kind="stable")  # items that are gone leave no hole
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)

    place = triggers, seen, champion.depth(settings.pool), data.n_items
    pools = {
        head: pool_lists(partial(lists, head), *place, settings.temperature, HEADS.index(head))
        for head in champion.indexes
    }
    if champion.preranker is not None:
        for head, pool in pools.items():
            item = np.where(pool.item >= 0, to_champion[pool.item], -1)
            pools[head] = prerank(pool, champion.preranker.logits(_known(triggers, to_champion), item), settings.pool)
    only = next(iter(pools.values()))
    both = pools.get("engagement", only), pools.get("relevance", only)
    merged = merge_pools(*both, settings.alpha, settings.pool) if len(pools) == 2 else only
    name = hashlib.sha256((version / MANIFEST).read_bytes()).hexdigest()[:12]
    return merged, {"version": name, "fingerprint": manifest["created_from"]["fingerprint"]}


def _known(triggers: Csr, to_champion: np.ndarray) -> Csr:
    """The triggers that the champion knows, in its numbers."""
    number = to_champion[triggers[1]]
    kept = np.concatenate([[0], np.cumsum(number >= 0)])
    return kept[triggers[0]], number[number >= 0]


def _numbers_in(table: pa.ChunkedArray, ids: pa.ChunkedArray) -> np.ndarray:
    """Int32 [ids]: the row of each id in `table`, -1 where it is not there."""
    place = pc.index_in(ids.combine_chunks(), value_set=table.combine_chunks())
    return np.asarray(pc.fill_null(place, -1)).astype(np.int32)
