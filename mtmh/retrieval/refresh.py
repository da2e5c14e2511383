"""New items into a version that is trained: retrievable from their first hour on,
at no cost of training.

Each gets the vector that a build with it in the catalog would have given it (see `build` and
`scoring.Donors`). Rows of items that are there never move, so every number that another part stores
goes on to hold.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from mtmh.errors import UserError
from mtmh.retrieval.channel_items import with_nearest_clusters
from mtmh.retrieval.index import Tuning, extend_index, on_cpu
from mtmh.retrieval.intake import Encoded, Intake
from mtmh.retrieval.retriever import Retriever, searched
from mtmh.retrieval.scoring import Donors
from mtmh.retrieval.version import MANIFEST, verify, write_manifest


def add_items(
    retriever: Retriever,
    items: pa.Table,
    intake: Intake,
    skip_known: bool = False,
) -> Retriever:
    """A retriever that holds `items` too, a table of the contract, in order of
    item_id after those it has.

    `retriever` itself stays as it is. Items that it has already are left out with `skip_known`, and
    a UserError without; so is a row that breaks the contract, that no item is left, or that nothing
    is known of any of them.
    """
    return extend(retriever, items, intake, skip_known).retriever


@dataclass(frozen=True)
class Extended:
    """A retriever with items added, and what came of it."""

    retriever: Retriever
    items: pa.Table  # those added, as the contract has them, in their order
    encoded: Encoded
    tunings: dict[str, Tuning]  # head -> how its index is set

    def write_changed(self, version: Path, draft: Path) -> None:
        """Those files of `version` that the added items change, into the folder `draft`."""
        new = self.retriever
        for head, channel in _first_channels(new).items():
            faiss.write_index(on_cpu(new.indexes[channel]), str(draft / f"{head}.faiss"))
            np.save(draft / f"{head}.npy", new.vectors[channel])
        tunings = {head: tuning.as_dict() for head, tuning in self.tunings.items()}
        (draft / "index.json").write_text(json.dumps(tunings))
        np.save(draft / "content.npy", new.content)
        pq.write_table(new.items, draft / "items.parquet")
        # Features of the new items follow those of the old ones, in the same columns.
        features = pq.read_table(version / "item_features.parquet")
        columns = [pa.array(column) for column in self.encoded.floats.numpy().T]
        added = dict(zip(features.column_names, columns, strict=True))
        more = pa.table(added, schema=features.schema)
        features = pa.concat_tables([features, more]).combine_chunks()
        pq.write_table(features, draft / "item_features.parquet")
        if new.preranker is not None:
            new.preranker.save(draft, json.loads((version / "preranker.json").read_text()))


def extend(
    retriever: Retriever,
    items: pa.Table,
    intake: Intake,
    skip_known: bool = False,
) -> Extended:
    """As `add_items`, with what a version on disk needs besides."""
    items = _without_known(retriever.items, intake.check(items), skip_known)
    encoded = intake.encode(items)
    if not encoded.has_features.any():
        raise UserError(
            f"nothing is known of any of the {len(items):,} new items, such as "
            f"{items['item_id'][0].as_py()!r}: no text or image that this version reads, no "
            "creator that it knows. They would all be retrieved alike. Give them a title, or "
            "train on them."
        )
    settings, indexes, vectors, tunings = intake.settings, {}, {}, {}
    in_train = retriever.items["in_train"].to_numpy()
    for head, channel in _first_channels(retriever).items():
        rows = retriever.vectors[channel]
        # As `build` places cold items: among the items that T1 knows, by content.
        added = encoded.vectors[head]
        if settings.cold == "content":
            neighbours = Donors.among(in_train, retriever.content)
            added = neighbours.place_by_content(added, encoded.content, rows, intake.tau_q)
        vectors[head] = np.concatenate([rows, added])
        indexes[head], tunings[head] = extend_index(
            retriever.indexes[channel],
            vectors[head],
            settings.k_ann,
            settings.min_recall,
            intake.seed,
        )
    # The preranker scores candidates from tables with a row an item: these grow too.
    content = np.concatenate([retriever.content, encoded.content])
    ranker = retriever.preranker
    if ranker is not None:
        interest = ranker.nearest_interests(retriever.content, encoded.content)
        new_items = encoded.ids, torch.from_numpy(encoded.content), torch.from_numpy(interest)
        ranker = ranker.extended(*new_items)
    # The new rows come last: no row that is there moves.
    columns, schema = retriever.items.column_names, retriever.items.schema
    new, channels = (
        items.append_column("in_train", pa.repeat(False, len(items))),
        retriever.channels,
    )
    new = with_nearest_clusters(new, retriever.items, channels, vectors[channels[0].head])
    table = pa.concat_tables([retriever.items, new.select(columns).cast(schema)]).combine_chunks()
    of_channels = {channel.name: vectors[channel.head] for channel in channels}
    on_device = searched(channels, indexes)
    extended = Retriever(table, channels, of_channels, on_device, content, ranker)
    return Extended(extended, items, encoded, tunings)


def _first_channels(retriever: Retriever) -> dict[str, str]:
    """Head -> a channel of it: its channels have one index and the same vectors."""
    return {channel.head: channel.name for channel in reversed(retriever.channels)}


def refresh(
    run: Path,
    items: pa.Table,
    out: Path,
    intake: Intake,
    skip_known: bool = False,
) -> Extended:
    """Write the version of `run` with `items` added to the new directory `out`,
    whole or not at all.

    `run` is a run or a version directory, refreshed before or not; `intake` is its own. What is
    written is a version (see `build`), with the run's config.yaml beside it, so that it is packaged
    and served with the same settings. Its manifest says besides in `created_from`: {"refreshed":
    {"items" added since training, "newest", when the latest of `items` was created, "base", the
    sha256 of the manifest before}}. The same input gives the same files, but for the last bits of
    texts that a cache had from other batches. Raises UserError as `add_items` does, when `run` does
    not have its checksums, or when `out` is there.
    """
    version = run / "retriever" if (run / "retriever").is_dir() else run
    if out.exists():
        raise UserError(f"{out} is there already: name a new folder, as versions never change.")
    manifest = verify(version)
    extended = extend(Retriever.load(version), items, intake, skip_known)
    # Written beside its final name and renamed: a reader sees the whole version or none.
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        extended.write_changed(version, draft)
        unchanged = [version / name for name in manifest["sha256"] if not (draft / name).exists()]
        for source in (*unchanged, *run.glob("config.yaml")):
            shutil.copy2(source, draft)
        # Items of earlier refreshes count too: all since training.
        created_from = manifest["created_from"]
        before = created_from.get("refreshed", {"items": 0})["items"]
        newest = pc.max(extended.items["created_at"]).as_py()
        refreshed = {
            "items": before + len(extended.items),
            "newest": newest.isoformat() if newest else None,
            "base": hashlib.sha256((version / MANIFEST).read_bytes()).hexdigest(),
        }
        channels = extended.retriever.channels
        write_manifest(draft, created_from | {"refreshed": refreshed}, channels)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return extended


def _without_known(table: pa.Table, items: pa.Table, skip_known: bool) -> pa.Table:
    """The items that the version does not hold."""
    is_known = pc.is_in(items["item_id"], value_set=table["item_id"].combine_chunks())
    duplicates = items.filter(is_known)
    if len(duplicates) and not (skip_known and len(duplicates) < len(items)):
        raise UserError(
            f"{len(duplicates):,} of {len(items):,} new items are in this version already, such "
            f"as {duplicates['item_id'][0].as_py()!r}; none was added. Rows that are there never "
            "change: leave them out (--skip-known does)."
        )
    return items.filter(pc.invert(is_known))
