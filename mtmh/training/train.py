"""Stage train: all heads on the mined pairs."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from mtmh.config import TrainSettings
from mtmh.data.pair_source import PairFile
from mtmh.data.prepared import Prepared
from mtmh.data.sampler import PairSampler
from mtmh.device import pick_device, pick_precision
from mtmh.errors import UserError
from mtmh.model.catalog import Catalog
from mtmh.model.two_heads import build_model
from mtmh.ragged import Ragged
from mtmh.training.loop import embed, fit
from mtmh.training.step import pick_step


def train(
    prepared: Path,
    features: Path,
    content: Path,
    pairs: Path,
    out: Path,
    settings: TrainSettings,
    seed: int,
    checkpoints: Path,
    neighbours: Ragged | None = None,
) -> None:
    """Train and write weights.safetensors, model.json, curves.parquet and
    <head>.npy, float32 [items, out_dim].

    Hard negatives are drawn from `neighbours`, a row an item (`retrieval.neighbours`). A checkpoint
    under `checkpoints` carries the name of everything the weights depend on; it is continued from
    when a run was cut short and removed at the end. Raises UserError when the device
    is missing, or the data has no content to distil from or to find hard negatives by.
    """
    data = Prepared.load(prepared)
    catalog = Catalog.load(data, features)
    teacher = torch.from_numpy(np.load(content / "content.npy"))
    _check_teacher(teacher, settings)
    sampler = _sampler(data, pairs, settings, seed, neighbours)
    torch.manual_seed(seed)
    weights = settings.loss_weights()
    architecture = catalog.architecture(
        settings.embedding_dim, settings.hidden, settings.out_dim, tuple(weights)
    )
    model = build_model(architecture)
    device = pick_device(settings.device, "train.device")
    step = pick_step(settings.kernels, device, pick_precision(settings.precision, device))
    loss = partial(
        step.objective_loss,
        weights=weights,
        tau_p=settings.tau_p,
        tau_q=settings.tau_q,
        logq=settings.logq,
    )
    # A checkpoint is continued only by a run of the same settings, data and inputs.
    inputs = [pairs / "pairs.parquet", features / "item_features.parquet", content / "content.npy"]
    checkpoint = checkpoints / f"{_checkpoint_key(settings, seed, data.info, inputs)}.pt"
    curves = fit(
        model, sampler, catalog, teacher, step, loss, settings.epochs, settings.lr, checkpoint
    )
    # The results: vectors of all items, the weights, and what it takes to build the model again.
    for head, vectors in embed(model, catalog, device).items():
        np.save(out / f"{head}.npy", vectors.numpy())
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(tensors, out / "weights.safetensors")
    (out / "weights.safetensors").chmod(0o644)  # safetensors lets the owner alone read it
    metadata = {
        "architecture": architecture,
        "tau_q": settings.tau_q,
        "vocabularies": catalog.vocabularies,
        "float_features": catalog.float_names,
    }
    (out / "model.json").write_text(json.dumps(metadata))
    pq.write_table(pa.Table.from_pylist(curves), out / "curves.parquet")
    checkpoint.unlink(missing_ok=True)


def _sampler(
    data: Prepared,
    pairs: Path,
    settings: TrainSettings,
    seed: int,
    neighbours: Ragged | None,
) -> PairSampler:
    source = PairFile(pairs / "pairs.parquet")
    # Hard negatives are near a trigger by content: without content there is nothing to draw from.
    if settings.hard_negatives:
        is_trigger = source.counts(data.n_items)[0] > 0
        if neighbours is None or not neighbours.lengths[is_trigger].any():
            raise UserError(
                f"train.hard_negatives is {settings.hard_negatives}, but no trigger has a title "
                "or text to find neighbours by. Add a title column to items, or write "
                "train.hard_negatives=0."
            )
    return PairSampler(
        source,
        history=data.train_histories(),
        n_items=data.n_items,
        batch_size=settings.batch_size,
        uniform_negatives=settings.uniform_negatives,
        seed=seed,
        hard_negatives=settings.hard_negatives,
        neighbours=neighbours,
        id_dropout=settings.id_dropout,
    )


def _check_teacher(teacher: torch.Tensor, settings: TrainSettings) -> None:
    """Raises UserError when a distillation loss is to be learned from no content at all."""
    distilled = [head for head, (_, weight) in settings.loss_weights().items() if weight > 0]
    if distilled and not teacher.any():
        instead = "l_r: 0 for it in train.heads" if settings.heads else "train.objective=engagement"
        raise UserError(
            f"no item has a title or text, so there is nothing the {' or '.join(distilled)} head "
            f"could learn from. Add a title column to items, or write {instead}."
        )


def _checkpoint_key(
    settings: TrainSettings,
    seed: int,
    info: dict[str, Any],
    inputs: list[Path],
) -> str:
    # The id features come from the items themselves, the masks from the users' histories.
    data = [info["fingerprint"], info["split_time"], info["id_features"]]
    digest = hashlib.sha256(f"{settings.model_dump_json()} {seed} {data}".encode())
    for path in inputs:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
