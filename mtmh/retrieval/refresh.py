"""New items into a version that is trained: retrievable from their first hour on, at no cost of training.

Each takes the place that a build with it in the catalog would have given it (see `build` and `scoring.Donors`): rows of
items that are there never move, so what is known of them, and every number that another part keeps, goes on to hold.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mtmh.errors import UserError
from mtmh.retrieval.index import Tuning, extend_index, on_cpu, on_gpu
from mtmh.retrieval.intake import Encoded, Intake
from mtmh.retrieval.retriever import Retriever
from mtmh.retrieval.scoring import Donors
from mtmh.retrieval.version import MANIFEST, verify, write_manifest


def add_items(retriever: Retriever, items: pa.Table, intake: Intake, skip_known: bool = False) -> Retriever:
    """A retriever that holds `items` too, a table of the contract, in order of item_id after those it has.

    `retriever` itself stays as it is. Items that it has already are left out with `skip_known`, and a UserError
    without; so is a row that breaks the contract, that no item is left, or that nothing is known of any of them.
    """
    return extend(retriever, items, intake, skip_known).retriever


@dataclass(frozen=True)
class Extended:
    """A retriever with items added, and what came of it."""

    retriever: Retriever
    items: pa.Table  # those added, as the contract has them, in their order
    encoded: Encoded
    tunings: dict[str, Tuning]  # head -> how its index is set


def extend(retriever: Retriever, items: pa.Table, intake: Intake, skip_known: bool = False) -> Extended:
    """As `add_items`, with what a version on disk needs besides."""
    items = _unknown(retriever.items, intake.check(items), skip_known)
    encoded = intake.encode(items)
    _refuse_untold(items, encoded)
    settings, indexes, vectors, tunings = intake.settings, {}, {}, {}
    for head, rows in retriever.vectors.items():
        vectors[head] = np.concatenate([rows, _placed(retriever, rows, encoded, head, intake)])
        asked = settings.k_ann, settings.min_recall, intake.seed
        index, tunings[head] = extend_index(retriever.indexes[head], vectors[head], *asked)
        indexes[head] = on_gpu(index)
    content = np.concatenate([retriever.content, encoded.content])
    ranker = retriever.preranker
    if ranker is not None:
        interest = _interests(retriever.content, ranker.interest, ranker.new, ranker.towers.interests, encoded.content)
        ranker = ranker.with_new(encoded.ids, torch.from_numpy(encoded.content), torch.from_numpy(interest))
    table = _rows_like(retriever.items, items)
    return Extended(Retriever(table, vectors, indexes, content, ranker), items, encoded, tunings)


def refresh(run: Path, items: pa.Table, out: Path, intake: Intake, skip_known: bool = False) -> Extended:
    """Write the version of `run` with `items` added to the new directory `out`, whole or not at all.

    `run` is a run or a version directory, refreshed before or not; `intake` is its own. What is written is a version
    (see `build`), with the run's config.yaml beside it, so that it is packaged and served with the same settings. Its
    manifest says besides in `created_from`: {"refreshed": {"items" added since training, "newest", when the latest of
    `items` was created, "base", the sha256 of the manifest before}}. The same input gives the same files, but for the
    last bits of texts that a cache had from other batches. Raises UserError as `add_items` does, when `run` does not
    have its checksums, or when `out` is there.
    """
    version = run / "retriever" if (run / "retriever").is_dir() else run
    if out.exists():
        raise UserError(f"{out} is there already: name a new folder, as versions never change.")
    manifest = verify(version)
    extended = extend(Retriever.load(version), items, intake, skip_known)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        _write(extended, version, draft)
        same = [version / name for name in manifest["sha256"] if not (draft / name).exists()]
        for source in (*same, *run.glob("config.yaml")):
            shutil.copy2(source, draft)
        write_manifest(draft, manifest["created_from"] | {"refreshed": _told(version, manifest, extended)})
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return extended


def _write(extended: Extended, version: Path, draft: Path) -> None:
    """The files of `version` that added items change."""
    new, told = extended.retriever, extended.encoded
    for head, index in new.indexes.items():
        faiss.write_index(on_cpu(index), str(draft / f"{head}.faiss"))
        np.save(draft / f"{head}.npy", new.vectors[head])
    (draft / "index.json").write_text(json.dumps({head: how.as_dict() for head, how in extended.tunings.items()}))
    np.save(draft / "content.npy", new.content)
    pq.write_table(new.items, draft / "items.parquet")
    features = pq.read_table(version / "item_features.parquet")
    columns = [pa.array(column) for column in told.floats.numpy().T]
    more = pa.table(dict(zip(features.column_names, columns, strict=True)), schema=features.schema)
    pq.write_table(pa.concat_tables([features, more]).combine_chunks(), draft / "item_features.parquet")
    if new.preranker is not None:
        new.preranker.save(draft, json.loads((version / "preranker.json").read_text()))


def _told(version: Path, manifest: dict[str, Any], extended: Extended) -> dict[str, Any]:
    before = manifest["created_from"].get("refreshed", {"items": 0})
    newest = pc.max(extended.items["created_at"]).as_py()
    return {
        "items": before["items"] + len(extended.items),
        "newest": newest.isoformat() if newest else None,
        "base": hashlib.sha256((version / MANIFEST).read_bytes()).hexdigest(),
    }


def _placed(retriever: Retriever, vectors: np.ndarray, encoded: Encoded, head: str, intake: Intake) -> np.ndarray:
    """Where a head has the new items, float32 [n, d]: as `build` places what T1 does not know."""
    own = encoded.vectors[head]
    if intake.settings.cold != "content":
        return own
    donors = np.flatnonzero(retriever.items["in_train"].to_numpy() & retriever.content.any(axis=1))
    placed = Donors(donors, retriever.content[donors])
    return placed.place(own, encoded.content, vectors, intake.tau_q)


def _interests(known: np.ndarray, interest: Tensor, new: Tensor, interests: int, content: np.ndarray) -> np.ndarray:
    """The preranker's cluster of each item of `content`, int64 [n]; the last is of items without content.

    A cluster's centre is the mean direction of its items that T1 knows: what K-means itself ended with, once it has
    converged. `known` float32 [items, c] is the content of the items of `interest` and `new`.
    """
    of, learned = interest.numpy(), known.any(axis=1) & ~new.numpy()
    centres = np.zeros((interests - 1, known.shape[1]), np.float32)
    np.add.at(centres, of[learned], known[learned])
    found = np.full(len(content), interests - 1, np.int64)
    there = content.any(axis=1)
    if len(centres) and there.any():
        faiss.normalize_L2(centres)
        found[there] = (content[there] @ centres.T).argmax(axis=1)
    return found


def _rows_like(table: pa.Table, items: pa.Table) -> pa.Table:
    """The version's item table with `items` after its own."""
    new = items.append_column("in_train", pa.repeat(False, len(items)))
    return pa.concat_tables([table, new.select(table.column_names).cast(table.schema)]).combine_chunks()


def _unknown(table: pa.Table, items: pa.Table, skip_known: bool) -> pa.Table:
    """The items that the version does not hold."""
    is_known = pc.is_in(items["item_id"], value_set=table["item_id"].combine_chunks())
    known = items.filter(is_known)
    if len(known) and not (skip_known and len(known) < len(items)):
        raise UserError(
            f"{len(known):,} of {len(items):,} new items are in this version already, such as"
            f" {known['item_id'][0].as_py()!r}; none was added. Rows that are there never change: leave them out"
            " (--skip-known does)."
        )
    return items.filter(pc.invert(is_known))


def _refuse_untold(items: pa.Table, encoded: Encoded) -> None:
    if not encoded.told.any():
        raise UserError(
            f"nothing is known of any of the {len(items):,} new items, such as {items['item_id'][0].as_py()!r}: no text"
            " or image that this version reads, no creator that it knows. They would all be retrieved alike. Give them"
            " a title, or train on them."
        )
