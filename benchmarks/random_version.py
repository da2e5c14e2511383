"""A run of the synthetic world at any size whose vectors nobody trained: real shapes and real
files, for speed alone.

The index is built and tuned, the version written, and the histories loaded by the project's own
code; random are the vectors (of few directions and some noise, as trained ones are, so that the
index has something to find), the model's weights and the preranker's.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from safetensors.torch import save_file

from components.writers import write_retriever
from mtmh.config import DataSettings, RetrievalSettings, SyntheticSettings
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.heads import HEADS
from mtmh.model.preranker import Preranker, build_towers
from mtmh.model.two_heads import build_model
from mtmh.stages import StageFolders

Items = Annotated[int, typer.Option(min=100, help="Items of the world, whose vectors are random.")]
# Width of all vectors, and what they are made of; the preranker's interests and candidates.
DIM, DIRECTIONS, NOISE, INTERESTS, CANDIDATES = 128, 16, 0.05, 64, 1000
ITEMS_PER_USER = 5


def make_run(items: int, folder: Path) -> Path:
    """The run `folder`/random-`items`: prepared/, retriever/ and features/ (the histories); made
    once."""
    run = folder / f"random-{items}"
    if run.is_dir():
        return run
    folder.mkdir(parents=True, exist_ok=True)
    # Under its name only once it is whole: the benchmarks share it.
    with tempfile.TemporaryDirectory(prefix=".random-", dir=folder) as name:
        draft = Path(name) / "run"
        prepared, stages, retriever = (draft / part for part in ("prepared", "stages", "retriever"))
        folders = StageFolders(
            prepared=prepared, content=stages, features=stages, model=stages, preranker=stages
        )
        for part in (prepared, stages, retriever):
            part.mkdir(parents=True)
        users = max(items // ITEMS_PER_USER, 100)
        size = SyntheticSettings(users=users, items=items)
        prepare("synthetic", prepared, DataSettings(synthetic=size), seed=0)
        _write_stages(Prepared.load(prepared), stages)
        write_retriever(folders, retriever, RetrievalSettings(), 0, draft)
        load_histories(draft, draft / "features")
        shutil.rmtree(stages)
        draft.rename(run)
    return run


def load_histories(run: Path, out: Path) -> None:
    """Fill the online store that the environment describes (see feature_repo.store) with the users'
    histories; `out` gets the registry."""
    from feature_repo.histories import build_histories

    build_histories(run / "prepared", out, "mtmh_random")


def users_and_items(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the users whose history is in the store, and of all items, sorted."""
    interactions = run / "prepared" / "interactions.parquet"
    users = pq.read_table(interactions, columns=["user_id"])["user_id"].unique()
    items = pq.read_table(run / "retriever" / "items.parquet", columns=["item_id"])["item_id"]
    return np.unique(users.to_numpy()), items.to_numpy()


def _write_stages(data: Prepared, out: Path) -> None:
    """What the stages content, features, train and preranker would leave."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    for name in ("content", *HEADS):
        np.save(out / f"{name}.npy", _vectors(data.n_items, rng))
    floats = ["log_popularity", "log_recent_popularity", "log_age_days"]
    columns = {name: rng.random(data.n_items, np.float32) for name in floats}
    pq.write_table(pa.table(columns), out / "item_features.parquet")
    ids = data.items["item_id"].to_pylist()
    creators = sorted({creator for creator in data.items["creator_id"].to_pylist() if creator})
    # A model of the usual shape, untrained: speed does not ask what the weights are.
    model: dict[str, Any] = {"mean": [1.0] * 3, "deviation": [1.0] * 3}
    model |= {
        "vocabularies": [len(ids) + 1, len(creators) + 1],
        "dims": [DIM, 64],
        "hidden": [DIM],
        "out_dim": DIM,
    }
    model["heads"] = list(HEADS)
    weights = build_model(model).state_dict()
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, out / "weights.safetensors"
    )
    description = {"architecture": model, "tau_q": 0.05, "float_features": floats}
    description["vocabularies"] = {"item_id": ids, "creator_id": creators}
    (out / "model.json").write_text(json.dumps(description))
    # The preranker likewise.
    towers: dict[str, Any] = {
        "vocabularies": [3, 3],
        "dims": [64, 32],
        "mean": [1.0] * 3,
        "deviation": [1.0] * 3,
    }
    towers |= {
        "content_dim": DIM,
        "interests": INTERESTS,
        "hidden": DIM,
        "dim": 64,
        "tasks": ["engagement"],
    }
    past, interest = torch.randn(len(ids), 64) * 0.3, torch.randint(0, INTERESTS, (len(ids),))
    vectors, new = {"engagement": torch.randn(len(ids), 64) * 0.3}, torch.from_numpy(~data.in_train)
    preranker = Preranker(
        build_towers(towers), past, interest, vectors, new, {"engagement": 0.2}, CANDIDATES
    )
    preranker.save(out, {"architecture": towers})


def _vectors(count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit rows float32 [count, DIM]: a few directions hold most of what they are, as in trained
    vectors."""
    vectors = (
        rng.normal(size=(count, DIRECTIONS)) @ rng.normal(size=(DIRECTIONS, DIM)) / DIRECTIONS**0.5
    )
    vectors += NOISE * rng.normal(size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
