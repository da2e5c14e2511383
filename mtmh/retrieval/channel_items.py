"""The items of a channel that is restricted: rows of the version's item table.

A table says itself what each restriction allows, by its topics and times, and by a column
`cluster_K` where a channel has a cluster of K: nothing else is written with a version for it.
"""

from collections.abc import Sequence
from datetime import timedelta
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data.clusters import cluster_by_vectors
from mtmh.errors import UserError
from mtmh.restriction import Restriction
from mtmh.retrieval.channels import Channel

LEVELS = ("l1_topics", "l2_topics")


def allowed_rows(channel: Channel, items: pa.Table) -> np.ndarray | None:
    """Rows of `items` that the channel may give, int32 ascending; None: it is not restricted.

    "topic:NAME": items with that topic of either level. "fresh:HOURS": those created at most so
    long before the newest item of the table, so that what a refresh adds moves them on.
    "cluster:N/K": see `with_clusters`. Raises UserError where none is left.
    """
    if channel.items is None:
        return None
    restriction = Restriction.parse(channel.items)
    if restriction.topic is not None:
        rows = _of_topic(restriction.topic, items, channel.name)
    elif restriction.hours is not None:
        rows = _fresh(restriction.hours, items, channel.name)
    else:
        of_item = items[f"cluster_{restriction.clusters}"].to_numpy()
        rows = np.flatnonzero(of_item == restriction.cluster)
    if not len(rows):
        raise UserError(
            f"channel {channel.name!r}: {channel.items} has no item. Leave the channel out."
        )
    return rows.astype(np.int32)


def check_restrictions(channels: Sequence[Channel], items: pa.Table) -> None:
    """Raises UserError for a topic or an age that no item has: `items` needs no clusters yet."""
    for channel in channels:
        if not cluster_counts([channel]):
            allowed_rows(channel, items)


def cluster_counts(channels: Sequence[Channel]) -> list[int]:
    """The different K of "cluster:N/K", ascending."""
    named = [Restriction.parse(channel.items) for channel in channels if channel.items]
    return sorted({parsed.clusters for parsed in named if parsed.clusters is not None})


def with_clusters(
    items: pa.Table, channels: Sequence[Channel], vectors: np.ndarray, seed: int
) -> pa.Table:
    """`items` with a column `cluster_K`, int32 from 0, for each K that a channel names.

    Spherical K-means of `vectors` float32 [items, d], unit rows: those of the first channel's head,
    so that a cluster is the same items in every head. Raises UserError where there are fewer items
    than clusters.
    """
    for count in cluster_counts(channels):
        of_item = cluster_by_vectors(vectors, count, seed).of_item
        items = items.append_column(f"cluster_{count}", pa.array(of_item))
    return items


def with_nearest_clusters(
    new: pa.Table, items: pa.Table, channels: Sequence[Channel], vectors: np.ndarray
) -> pa.Table:
    """`new` items with the columns that `with_clusters` gave `items`: those whose centroid is
    nearest.

    `vectors` float32 [items + new, d] are those of `items` and then the new ones'. A centroid is
    the mean of what T1 knows of a cluster, of all of it where that is nothing: no number of
    refreshes moves the former.
    """
    in_train, old_vectors = items["in_train"].to_numpy(), vectors[: len(items)]
    for count in cluster_counts(channels):
        of_item = items[f"cluster_{count}"].to_numpy()
        has_known = np.bincount(of_item[in_train], minlength=count) > 0
        # Where T1 knows nothing of a cluster, all of its items count.
        chosen = in_train | ~has_known[of_item]
        centroids = np.zeros((count, vectors.shape[1]))
        np.add.at(centroids, of_item[chosen], old_vectors[chosen])
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
        nearest = (vectors[len(items) :] @ centroids.T).argmax(axis=1)
        new = new.append_column(f"cluster_{count}", pa.array(nearest.astype(np.int32)))
    return new


def _of_topic(topic: str, items: pa.Table, channel: str) -> np.ndarray:
    rows, names = list[np.ndarray](), set[str]()
    for level in LEVELS:
        column = items[level].combine_chunks()
        flat = pc.list_flatten(column)
        is_topic = pc.fill_null(pc.equal(flat, topic), False).to_numpy(zero_copy_only=False)
        rows.append(pc.list_parent_indices(column).to_numpy()[is_topic])
        names.update(name for name in pc.unique(flat).to_pylist() if name is not None)
    if any(map(len, rows)):
        return np.unique(np.concatenate(rows))
    near = get_close_matches(topic, names, n=3, cutoff=0.5) or sorted(names)[:3]
    nearest = f"There is {', '.join(map(repr, near))}." if names else "No item has topics."
    raise UserError(f"channel {channel!r}: no item has the topic {topic!r}. {nearest}")


def _fresh(hours: float, items: pa.Table, channel: str) -> np.ndarray:
    created = items["created_at"].combine_chunks()
    newest = pc.max(created)
    if not newest.is_valid:
        raise UserError(
            f"channel {channel!r}: no item is known to be fresh, as none has a created_at. Add that"
            " column to items, or leave the channel out."
        )
    # The newest item is the end of the data, whenever it is asked for.
    since = pa.scalar(newest.as_py() - timedelta(hours=hours), created.type)
    is_fresh = pc.fill_null(pc.greater_equal(created, since), False)
    return np.flatnonzero(is_fresh.to_numpy(zero_copy_only=False))
