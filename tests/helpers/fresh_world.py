"""A trained version of a small synthetic world, and what it would have been without the items that
T1 does not know.

Both are of one model, so that adding those items to the second can be held against the first.
Titles are encoded by the real backbone; the catalog has an id feature, a statistic and a number;
one of the new items has no title.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from components.writers import WRITERS
from helpers.checkerboard import prerank_settings, train_settings
from mtmh.config import (
    Config,
    ContentSettings,
    DataSettings,
    PairSettings,
    RetrievalSettings,
    SyntheticSettings,
)
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.model.preranker import Preranker
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.index import build_index
from mtmh.retrieval.version import verify, write_manifest
from mtmh.stages import StageFolders

RETRIEVAL = RetrievalSettings(k_ann=100, pool=60, triggers=12, min_recall=0.9)


@dataclass(frozen=True)
class FreshWorld:
    """Directories, and the new items."""

    whole: Path  # run whose version was built with all items
    before: Path  # run whose version lacks the new ones
    new: pa.Table  # as a user would bring them
    cache: Path  # of the backbone's vectors


def write_fresh_world(root: Path) -> FreshWorld:
    names = ("prepared", "features", "content", "pairs", "model", "preranker")
    world = StageFolders(
        **{name: root / name for name in names}, retriever=root / "whole" / "retriever"
    )
    prepared, version = world.prepared, world.retriever
    settings = DataSettings(synthetic=SyntheticSettings(users=150, items=260, days=20))
    prepare("synthetic", prepared, settings, seed=0)
    items = pq.read_table(prepared / "items.parquet")
    known = _known(Prepared.load(prepared))
    blank = int(np.flatnonzero(~known)[0])
    titles = ["" if row == blank else title for row, title in enumerate(items["title"].to_pylist())]
    pq.write_table(
        items.set_column(1, "title", pa.array(titles, pa.string())), prepared / "items.parquet"
    )
    for stage, folder in world.by_stage():
        if stage.name != "prepare":
            folder.mkdir(parents=True)
    data = Prepared.load(prepared)
    length = np.random.default_rng(0).normal(3, 2, data.n_items).astype(np.float32)
    seen = data.popularity
    floats = {"log_popularity": np.log1p(seen).astype(np.float32), "length": length}
    pq.write_table(pa.table(floats), world.features / "item_features.parquet")
    small = train_settings(epochs=1, batch_size=128, embedding_dim=16, out_dim=16)
    ranker = prerank_settings(candidates=80, epochs=1, batch_size=256)
    WRITERS["content"](
        world, world.content, ContentSettings(dim=16, device="cpu"), 0, root / "cache"
    )
    WRITERS["pairs"](world, world.pairs, PairSettings(), 0, root)
    WRITERS["train"](world, world.model, small, 0, root / "checkpoints")
    WRITERS["preranker"](world, world.preranker, ranker, 0, root)
    WRITERS["index"](world, version, RETRIEVAL, 0, root)
    before = root / "before" / "retriever"
    before.mkdir(parents=True)
    write_without(version, known, before)
    for run in (root / "whole", root / "before"):
        (run / "config.yaml").write_text(
            yaml.safe_dump(Config(retrieval=RETRIEVAL).model_dump(mode="json"))
        )
    new = data.items.append_column("length", pa.array(length.astype(np.float64))).filter(
        pa.array(~known)
    )
    return FreshWorld(root / "whole", root / "before", new, root / "cache")


def write_without(version: Path, kept: np.ndarray, out: Path) -> None:
    """The version as if the items not `kept`, bool [items], had never been there."""
    for name in (
        "weights.safetensors",
        "model.json",
        "content_encoder.safetensors",
        "content_encoder.json",
    ):
        (out / name).write_bytes((version / name).read_bytes())
    for name in ("items", "item_features"):
        pq.write_table(
            pq.read_table(version / f"{name}.parquet").filter(pa.array(kept)),
            out / f"{name}.parquet",
        )
    np.save(out / "content.npy", np.load(version / "content.npy")[kept])
    tunings = {}
    for head in ("engagement", "relevance"):
        vectors = np.load(version / f"{head}.npy")[kept]
        np.save(out / f"{head}.npy", vectors)
        index, tuning = build_index(vectors, RETRIEVAL.k_ann, RETRIEVAL.min_recall, 0)
        faiss.write_index(index, str(out / f"{head}.faiss"))
        tunings[head] = tuning.as_dict()
    (out / "index.json").write_text(json.dumps(tunings))
    ranker, rows = Preranker.load(version), torch.from_numpy(kept)
    items = {task: vectors[rows] for task, vectors in ranker.items.items()}
    tables = ranker.past[rows], ranker.interest[rows], items, ranker.new[rows]
    left = Preranker(ranker.towers, *tables, ranker.weights, ranker.candidates)
    left.save(out, json.loads((version / "preranker.json").read_text()))
    manifest = verify(version)
    write_manifest(out, manifest["created_from"], channels_in(manifest))


def _known(data: Prepared) -> np.ndarray:
    return data.in_train
