"""Versions of a small synthetic world, trained for a moment, large enough for an index that does
not search everything.

Some items have no content, some are new after the split, and the catalog has an id feature, a
statistic and a number.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.writers import WRITERS
from helpers.checkerboard import THREE_HEADS, prerank_settings, train_settings
from mtmh.config import (
    Config,
    DataSettings,
    PairSettings,
    RetrievalSettings,
    SyntheticSettings,
    TrainSettings,
)
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.stages import StageFolders

ITEMS, CONTENT = 900, 12
RETRIEVAL = RetrievalSettings(k_ann=200, pool=120, triggers=12, min_recall=0.9)
SETTINGS = DataSettings(synthetic=SyntheticSettings(users=200, items=ITEMS, days=20))


def write_world(root: Path, length: bool = True) -> StageFolders:
    """Prepared data and pairs as their stages leave them; features and content of random numbers.

    Without `length` the items have no number of their own.
    """
    world = StageFolders(
        **{name: root / name for name in ("prepared", "features", "content", "pairs")}
    )
    prepare("synthetic", world.prepared, SETTINGS, seed=0)
    rng = np.random.default_rng(0)
    content = rng.normal(size=(ITEMS, CONTENT))
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    content[rng.permutation(ITEMS)[:40]] = 0
    for folder in (world.features, world.content, world.pairs):
        folder.mkdir()
    np.save(world.content / "content.npy", content.astype(np.float32))
    seen = np.bincount(Prepared.load(world.prepared).item, minlength=ITEMS)
    floats = {"log_popularity": np.log1p(seen)} | (
        {"length": rng.normal(3, 2, ITEMS)} if length else {}
    )
    table = pa.table({name: values.astype(np.float32) for name, values in floats.items()})
    pq.write_table(table, world.features / "item_features.parquet")
    WRITERS["pairs"](world, world.pairs, PairSettings(), 0, root)
    return world


def write_run(
    world: StageFolders,
    run: Path,
    objective: str = "mtmh",
    seed: int = 0,
    ranked: bool = True,
    quotas: Mapping[str, int] | None = None,
) -> Path:
    """What of a run directory serving reads: the retriever and config.yaml.

    `quotas`: of a version of three heads (helpers.checkerboard), in place of the objective's.
    """
    train, retrieval = TrainSettings(objective=objective), RETRIEVAL
    if quotas is not None:
        train = TrainSettings(heads=THREE_HEADS)
        channels = [{"head": head, "quota": quota} for head, quota in quotas.items()]
        changes = {"channels": channels, "alpha": quotas["engagement"]}
        retrieval = RetrievalSettings(**{**RETRIEVAL.model_dump(), **changes})
    model, preranker, retriever = run / "model", run / "preranker", run / "retriever"
    for folder in (model, preranker, retriever):
        folder.mkdir(parents=True)
    settings = train_settings(
        objective=train.objective,
        heads=train.heads,
        epochs=1,
        batch_size=128,
        embedding_dim=16,
        out_dim=16,
    )
    WRITERS["train"](world, model, settings, seed, run / "checkpoints")
    if ranked:
        WRITERS["preranker"](
            world, preranker, prerank_settings(candidates=150, epochs=1), seed, run
        )
    WRITERS["index"](
        replace(world, model=model, preranker=preranker), retriever, retrieval, seed, run
    )
    config = Config(data=SETTINGS, train=train, retrieval=retrieval)
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return run
