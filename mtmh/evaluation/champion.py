"""The champion's lists for today's test users: an older version, over a catalog
that may have been another.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.config import RetrievalSettings
from mtmh.data.prepared import Prepared
from mtmh.ids import Ids
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Lists, Pool, Request, Retriever, merge_pools
from mtmh.retrieval.version import MANIFEST, verify

OTHER_DATA = 0.01  # least share of T1's items that a champion of the same data knows


def is_of_other_data(version: Path, data: Prepared) -> bool:
    """Whether the version at `version` knows next to none of the items that T1 engages with."""
    item_ids = pq.read_table(version / "items.parquet", columns=["item_id"])["item_id"]
    engaged = data.items["item_id"].filter(pa.array(data.in_train))
    return bool((Ids(item_ids).rows(engaged) >= 0).mean() < OTHER_DATA)


def champion_pool(
    version: Path, data: Prepared, triggers: Ragged, seen: Ragged, settings: RetrievalSettings
) -> tuple[Pool, dict[str, Any]]:
    """The champion's merge at the serving alpha in today's item numbers, and
    {"version", "fingerprint"}.

    Items that the champion does not know retrieve nothing and are not retrieved: what a user would
    see, were it served today. `triggers` and `seen` are of the test users.
    """
    manifest = verify(version)
    champion = Retriever.load(version)
    # Items have other numbers in the champion's catalog.
    to_champion = Ids(champion.items["item_id"]).rows(data.items["item_id"])
    to_today = Ids(data.items["item_id"]).rows(champion.items["item_id"])

    def lists_of_today(items: np.ndarray, k: int, channel: str) -> Lists:
        """What the champion retrieves without the items that are gone, which leave no hole."""
        ids, scores = champion.similar_items(items, k, channel)
        # A stable sort moves the items that are gone behind the others.
        gone = (ids < 0) | (to_today[ids] < 0)
        order = np.argsort(gone, axis=1, kind="stable")
        ids, scores = np.where(gone, -1, ids), np.where(gone, np.float32(-np.inf), scores)
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)

    # All in the champion's numbers, so that its preranker reads them too.
    history, hidden = _renumbered(triggers, to_champion), _renumbered(seen, to_champion)
    pools = champion.pools(Request.of(history, hidden, settings), lists_of_today)
    quotas = champion.quotas(settings.alpha)
    merged = merge_pools(list(pools.values()), quotas, settings.pool)
    item = np.where(merged.item >= 0, to_today[merged.item], -1)
    trigger = np.where(merged.trigger >= 0, to_today[merged.trigger], -1)
    # A version has no name of its own: its manifest's checksum tells it from others.
    name = hashlib.sha256((version / MANIFEST).read_bytes()).hexdigest()[:12]
    pool = Pool(item, merged.score, trigger, merged.channel)
    return pool, {"version": name, "fingerprint": manifest["created_from"]["fingerprint"]}


def _renumbered(items: Ragged, number_of: np.ndarray) -> Ragged:
    """The items in the numbers of `number_of`, without those that have none (-1)."""
    numbers = number_of[items.values]
    return Ragged(items.indptr, numbers).where(numbers >= 0)
