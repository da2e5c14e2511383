"""Stage index: one version = the model and an index per head, copied and loaded together."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.config import RetrievalSettings, load_config
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.retrieval.channel_items import check_restrictions, with_clusters
from mtmh.retrieval.channels import Channel, as_manifest, channels_of
from mtmh.retrieval.index import build_index
from mtmh.retrieval.scoring import place_cold

MANIFEST = "manifest.json"
ITEM_COLUMNS = ["item_id", "title", "l1_topics", "l2_topics", "created_at"]


def build(
    prepared: Path,
    features: Path,
    content: Path,
    model: Path,
    out: Path,
    settings: RetrievalSettings,
    seed: int,
    preranker: Path | None = None,
) -> None:
    """Write the version directory `out`; its manifest comes last and holds the
    sha256 of every file.

    weights.safetensors and model.json; <head>.npy and <head>.faiss for each head with channels;
    items.parquet (row = item, with `in_train`: engaged with in T1, and `cluster_K` where a channel
    has a cluster of K) and item_features.parquet;
    content.npy and the encoder that made it (see `ContentEncoder.load`); index.json, the tuning of
    each index; preranker.safetensors and preranker.json where the directory `preranker` holds them.
    """
    data = Prepared.load(prepared)
    content_vectors = np.load(content / "content.npy")
    metadata = json.loads((model / "model.json").read_text())
    tau_q, channels = metadata["tau_q"], channels_of(metadata["architecture"]["heads"], settings)
    if settings.cold == "content":
        cold = int((~data.in_train & content_vectors.any(axis=1)).sum())
        print(
            f"index: {cold:,} items that T1 does not know are placed by their content neighbours",
            flush=True,
        )
    items = data.items.select(ITEM_COLUMNS).append_column("in_train", pa.array(data.in_train))
    check_restrictions(channels, items)
    # An index of each head that has channels, over its vectors with the cold items placed.
    tunings = dict[str, dict[str, Any]]()
    for head in dict.fromkeys(channel.head for channel in channels):
        vectors = np.load(model / f"{head}.npy")
        if settings.cold == "content":
            vectors = place_cold(vectors, content_vectors, data.in_train, tau_q)
        _check_finite(vectors, head, data, features)
        if head == channels[0].head:
            items = with_clusters(items, channels, vectors, seed)
        index, tuning = build_index(vectors, settings.k_ann, settings.min_recall, seed)
        faiss.write_index(index, str(out / f"{head}.faiss"))
        tunings[head] = tuning.as_dict()
        np.save(out / f"{head}.npy", vectors)
        print(
            f"index: {head}: {data.n_items:,} items, nlist {tuning.nlist}, nprobe {tuning.nprobe}, "
            f"recall@{tuning.k} against exact search {tuning.recall:.3f}",
            flush=True,
        )
    # Copies of all that serving and refreshing read: a version needs no other folder.
    sources = [model / "weights.safetensors", model / "model.json", content / "content.npy"]
    sources += [features / "item_features.parquet", *content.glob("content_encoder.*")]
    sources += preranker.glob("preranker.*") if preranker else []
    for source in sources:
        shutil.copy2(source, out)
    pq.write_table(items, out / "items.parquet")
    (out / "index.json").write_text(json.dumps(tunings))
    # The manifest comes last: a version without one is unfinished.
    created_from = {name: data.info[name] for name in ("path", "fingerprint", "split_time")}
    write_manifest(out, created_from, channels)


def _check_finite(vectors: np.ndarray, head: str, data: Prepared, features: Path) -> None:
    """Raises UserError naming an item without a finite vector, and the feature
    that is largest there.
    """
    not_finite = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if not len(not_finite):
        return
    # A feature of huge values is the usual cause, so the message names the largest.
    table = pq.read_table(features / "item_features.parquet")
    item = int(not_finite[0])
    numbers = {name: float(table[name][item].as_py()) for name in table.column_names}
    size = {name: np.nan_to_num(abs(number), nan=np.inf) for name, number in numbers.items()}
    largest = max(size, key=lambda name: size[name], default=None)
    suspect = f"; its largest feature is {largest} = {numbers[largest]:g}" if largest else ""
    raise UserError(
        f"{head}: the vectors of {len(not_finite):,} of {len(vectors):,} items are not finite, "
        f"e.g. of item {data.items['item_id'][item].as_py()!r}{suspect}. Mend or leave out that "
        "feature (data.float_features), or train with a smaller train.lr."
    )


def write_manifest(
    version: Path, created_from: dict[str, Any], channels: Sequence[Channel]
) -> None:
    """Name the version's channels, and every file of it with its checksum."""
    # step.json belongs to the stage and not to the version.
    paths = [path for path in sorted(version.iterdir()) if path.name not in (MANIFEST, "step.json")]
    files = {path.name: _sha256(path) for path in paths}
    manifest = {
        "created_from": created_from,
        "channels": as_manifest(channels),
        "sha256": files,
    }
    (version / MANIFEST).write_text(json.dumps(manifest, indent=1))


def verify(version: Path) -> dict[str, Any]:
    """Check every file against the manifest and return the manifest. Raises
    UserError naming what does not agree.
    """
    if not (version / MANIFEST).is_file():
        raise UserError(
            f"{version} holds no {MANIFEST}: give a retriever directory, such as "
            f"runs/latest/retriever."
        )
    manifest: dict[str, Any] = json.loads((version / MANIFEST).read_text())
    # Only what the manifest names is the version's: a stage's step.json may lie beside it.
    for name, expected in manifest["sha256"].items():
        path = version / name
        if not path.is_file():
            raise UserError(
                f"{path} is missing, though the manifest lists it: copy the version again, whole."
            )
        if _sha256(path) != expected:
            raise UserError(
                f"{path} does not have the checksum of its manifest: copy the version again, whole."
            )
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def retrieval_settings(run: Path) -> RetrievalSettings:
    """How the run retrieved; the defaults for a version directory without its run."""
    path = run / "config.yaml"
    return load_config(path).retrieval if path.is_file() else RetrievalSettings()
