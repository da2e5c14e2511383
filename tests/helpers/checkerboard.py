"""A small world where recall and relevance disagree: whom an item is engaged with and what it is
about cut across.

Items 0..39: users of side s engage only with items of `side` s (item % 2); content and topics
follow `subject` (item // 10 % 2). Items 40..43 are new: nobody engaged with them before the split.
Item 43 has no content.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.writers import WRITERS
from mtmh.config import (
    DataSettings,
    PairSettings,
    PrerankSettings,
    RetrievalSettings,
    TrainSettings,
)
from mtmh.data.files import write_parquet
from mtmh.data.prepare import prepare
from mtmh.stages import StageFolders as Stages

OLD, ITEMS, USERS, EVENTS = 40, 44, 60, 15
THREE_HEADS = [
    {"name": "engagement", "l_e": 1},
    {"name": "relevance", "l_e": 1, "l_r": 1},
    {"name": "subject", "l_r": 1},
]
SIDE, SUBJECT = np.arange(ITEMS) % 2, np.arange(ITEMS) // 10 % 2


def train_settings(**changes: Any) -> TrainSettings:
    """A model that learns this world in 240 steps."""
    small: dict[str, Any] = {"epochs": 2, "batch_size": 32, "uniform_negatives": 16, "lr": 0.1}
    small |= {"tau_p": 0.1, "tau_q": 0.2, "w_r": 1.0, "logq": True}
    small |= {"embedding_dim": 8, "hidden": [16], "out_dim": 8, "device": "cpu"}
    return TrainSettings(**{**small, **changes})


def retrieval_settings(**changes: Any) -> RetrievalSettings:
    """Lists as short as this world is small."""
    return RetrievalSettings(**{"k_ann": 30, "pool": 12, "triggers": 8, **changes})


def prerank_settings(**changes: Any) -> PrerankSettings:
    """A preranker that learns this world in 300 steps."""
    small: dict[str, Any] = {
        "candidates": 20,
        "weight": 0.5,
        "epochs": 15,
        "batch_size": 32,
        "negatives": 16,
    }
    small |= {"lr": 0.01, "dim": 8, "hidden": 16, "interests": 4, "device": "cpu"}
    return PrerankSettings(**{**small, **changes})


def item_id(number: int) -> str:
    return f"i{number:02d}"


def write_source(folder: Path, gone: tuple[int, ...] = (), seed: int = 0) -> Path:
    """The log and the items as a user would bring them; items of `gone` are not there."""
    rng = np.random.default_rng(seed)
    left = np.setdiff1d(np.arange(ITEMS), gone)
    rows = []
    for user in range(USERS):
        own = left[(left < OLD) & (SIDE[left] == user % 2)]
        chosen = rng.permutation(own)[:EVENTS]
        if user % 10 == 0 and ITEMS - 1 in left:
            chosen[-1] = ITEMS - 1  # after the split, so it stays new
        rows += [
            (f"u{user:02d}", item_id(item), place * USERS + user)
            for place, item in enumerate(chosen)
        ]
    user_id, item, minute = zip(*rows, strict=True)
    moment = np.datetime64("2024-01-01", "us") + np.array(minute).astype("timedelta64[m]")
    log = {
        "user_id": user_id,
        "item_id": item,
        "timestamp": pa.array(moment).cast(pa.timestamp("us", tz="UTC")),
    }
    catalog = {
        "item_id": [item_id(number) for number in left],
        "title": [f"item {number}" for number in left],
        "l1_topics": [["all"]] * len(left),
        "l2_topics": [[f"subject {SUBJECT[number]}"] for number in left],
        "creator_id": [f"c{SIDE[number]}{number % 5}" for number in left],
    }
    write_parquet(pa.table(log), folder / "interactions.parquet")
    write_parquet(pa.table(catalog), folder / "items.parquet")
    return folder


def write_stages(root: Path, gone: tuple[int, ...] = (), seed: int = 0) -> Stages:
    """Prepared data, pairs, and features and content as their stages would leave them."""
    stages = Stages(**{name: root / name for name in ("prepared", "features", "content", "pairs")})
    prepare(str(write_source(root / "source", gone, seed)), stages.prepared, DataSettings(), seed=0)
    left = np.setdiff1d(np.arange(ITEMS), gone)
    content = np.random.default_rng(1).normal(size=(ITEMS, 6)) * 0.3
    content[np.arange(ITEMS), SUBJECT] += 1.5
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    content[ITEMS - 1] = 0
    for folder in (stages.features, stages.content, stages.pairs):
        folder.mkdir()
    np.save(stages.content / "content.npy", content[left].astype(np.float32))
    floats = {
        "popularity": (left % 7).astype(np.float32),
        "constant": np.full(len(left), 3, np.float32),
    }
    pq.write_table(pa.table(floats), stages.features / "item_features.parquet")
    WRITERS["pairs"](stages, stages.pairs, PairSettings(sim="none", propensity=False), 0, root)
    return stages


def write_model(stages: Stages, out: Path, objective: str) -> Path:
    """The stage train, seed 0; the objective "three heads" has one for the content alone."""
    out.mkdir(parents=True)
    heads: dict[str, Any] = {"objective": objective}
    if objective == "three heads":
        heads = {"heads": THREE_HEADS}
    WRITERS["train"](stages, out, train_settings(**heads), 0, out / "checkpoints")
    return out


def write_preranker(stages: Stages, out: Path, seed: int = 0, **changes: Any) -> Path:
    """The stage preranker."""
    out.mkdir(parents=True, exist_ok=True)
    WRITERS["preranker"](stages, out, prerank_settings(**changes), seed, out)
    return out


def write_version(stages: Stages, out: Path, objective: str, model: Path | None = None) -> Path:
    """The stage index, after the stages preranker and, where no `model` is given, train."""
    out.mkdir(parents=True)
    model = model or write_model(stages, out.with_name(f"{out.name}-model"), objective)
    preranker = write_preranker(stages, out.with_name(f"{out.name}-preranker"))
    WRITERS["index"](
        replace(stages, model=model, preranker=preranker), out, retrieval_settings(), 0, out
    )
    return out
