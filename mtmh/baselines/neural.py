"""Training of the paper's baselines: the project's own loop, sampler, L_e and optimizer, with the
same epochs over the same pairs (section 9). What a function returns answers by exact search."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtmh.baselines.contract import TrainData, VectorSearch
from mtmh.baselines.towers import (
    VECTORS,
    IdTable,
    ItemTower,
    MixtureOfLogits,
    euclidean,
    euclidean_vectors,
    inner_product,
)
from mtmh.config import TrainSettings
from mtmh.data.sampler import Batch, PairSampler
from mtmh.device import pick_device, pick_precision
from mtmh.model.catalog import Catalog
from mtmh.model.losses import column_offsets, engagement_loss
from mtmh.retrieval.retriever import Lists
from mtmh.retrieval.scoring import NOTHING
from mtmh.training.loop import embed, fit
from mtmh.training.step import Step, pick_step

WIDTHS = (512, 256, 128)  # of the MLP, the last one of the item's vector
CONTENT_WIDTH = 64  # of the layer that makes features of the content
COMPONENTS, COMPONENT_DIM = 4, 32  # of the mixture of logits
SHORTLIST = 2  # times as many candidates as are asked for are scored by the mixture
ROWS = 32  # triggers whose shortlists are scored at a time

Score = Callable[[Tensor, Tensor], Tensor]  # float [B, d], float [C, d] -> float [B, C]


@dataclass(frozen=True)
class Reranked:
    """Candidates of a shortlist in the order of the mixture of logits."""

    model: MixtureOfLogits
    rows: Tensor  # float32 [items, ..], of `MixtureOfLogits.forward`
    shortlist: VectorSearch

    @property
    def parameters(self) -> int:
        """Those of the network."""
        return weights_of(self.model)

    @torch.inference_mode()
    def similar_items(self, triggers: np.ndarray, k: int) -> Lists:
        """See `Baseline`."""
        listed, _ = self.shortlist.similar_items(triggers, SHORTLIST * k)
        scores = np.full(listed.shape, NOTHING)
        # Scored in blocks: with all of a block's candidates at once, each a few numbers a pair.
        for start in range(0, len(triggers), ROWS):
            part = slice(start, start + ROWS)
            items, column = np.unique(np.maximum(listed[part], 0), return_inverse=True)
            phi = self.model.score(self.rows[triggers[part]], self.rows[items]).numpy()
            listed_phi = np.take_along_axis(phi, column.reshape(listed[part].shape), axis=1)
            scores[part] = np.where(listed[part] >= 0, listed_phi, NOTHING)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(listed, order, axis=1), np.take_along_axis(scores, order, axis=1)


def item_cf(data: TrainData, train: TrainSettings, seed: int, **changes: Any) -> VectorSearch:
    """ItemCF: a table of ids by Euclidean distance; what T1 does not know has no vector."""
    torch.manual_seed(seed)
    rows = len(data.catalog.vocabularies["item_id"]) + 1
    model = IdTable(rows, train.embedding_dim)
    settings = train.model_copy(update=changes)
    vectors = trained(model, data, data.catalog, settings, seed, euclidean)
    queries, keys = euclidean_vectors(vectors)
    return VectorSearch(queries.numpy(), keys.numpy(), data.warm_items, weights_of(model))


def item_tower(
    data: TrainData,
    train: TrainSettings,
    seed: int,
    name: str,
    content_width: int | None = None,
    **changes: Any,
) -> VectorSearch:
    """NeuCF, and with a `content_width` the models that read content as well: 0 as it is (HLLM),
    else through a layer. Raises UserError where they find no content."""
    torch.manual_seed(seed)
    model, catalog = _tower(data, train, name, content_width)
    settings = train.model_copy(update=changes)
    vectors = trained(model, data, catalog, settings, seed, inner_product).numpy()
    everything = np.arange(data.n_items, dtype=np.int32)
    return VectorSearch(vectors, vectors, everything, weights_of(model))


def mixture_of_logits(
    data: TrainData, train: TrainSettings, seed: int, name: str, **changes: Any
) -> Reranked:
    """MoL: the tower with content features under a true mixture of logits."""
    torch.manual_seed(seed)
    tower, catalog = _tower(data, train, name, CONTENT_WIDTH)
    model = MixtureOfLogits(tower, WIDTHS[-1], COMPONENTS, COMPONENT_DIM)
    settings = train.model_copy(update=changes)
    rows = trained(model, data, catalog, settings, seed, model.score)
    queries, keys = (vectors.detach().numpy() for vectors in model.shortlist_vectors(rows))
    everything = np.arange(data.n_items, dtype=np.int32)
    return Reranked(model.cpu(), rows, VectorSearch(queries, keys, everything))


def trained(
    model: nn.Module,
    data: TrainData,
    catalog: Catalog,
    train: TrainSettings,
    seed: int,
    score: Score,
) -> Tensor:
    """Train `model` in place with L_e over the pairs; the vectors of all items, float32 [items,
    ..], on the CPU."""
    sampler = PairSampler(
        data.pairs,
        history=data.history,
        n_items=data.n_items,
        batch_size=train.batch_size,
        uniform_negatives=train.uniform_negatives,
        seed=seed,
        id_dropout=train.id_dropout,
    )
    # The loop knows nothing of the model but its forward and its loss.
    device = pick_device(train.device, "train.device")
    step = plain_step(device, train)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=step.precision == torch.bfloat16)
    loss = autocast(partial(pair_loss, score=score, tau=train.tau_p, logq=train.logq))
    content = torch.from_numpy(data.content)
    fit(model, sampler, catalog, content, step, loss, train.epochs, train.lr)
    return embed(model, catalog, device)[VECTORS]


def weights_of(model: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def pair_loss(
    vectors: dict[str, Tensor], content: Tensor, batch: Batch, score: Score, tau: float, logq: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_e with any score of a trigger and a candidate in the place of the inner product: the scalar
    and its part, as `objective_loss` gives them. The content has no part in it."""
    # Columns come first among a batch's items; accidental hits are masked by the offsets.
    rows = vectors[VECTORS]
    similarity = score(rows.index_select(0, batch.trigger), rows[: len(batch.log_count)])
    logits = similarity.float() / tau + column_offsets(batch)
    loss = engagement_loss(logits - batch.log_q if logq else logits, batch.positive, batch.weight)
    return loss, {"engagement_loss": loss.detach()}


def plain_step(device: torch.device, train: TrainSettings) -> Step:
    """How a step of any module is computed: plain PyTorch, and on a CPU the fused update."""
    precision = pick_precision(train.precision, device)
    plain = pick_step("torch", device, precision)
    if device.type != "cpu":
        return plain
    # Only the optimizer's part of the fused step: the heads' kernels are for two heads.
    fused = pick_step("auto", device, precision)
    return replace(plain, update=fused.update, threads=nullcontext)


def _tower(
    data: TrainData, train: TrainSettings, name: str, content_width: int | None
) -> tuple[ItemTower, Catalog]:
    """The tower, and the catalog as it reads it: with the content behind the numbers, or none."""
    catalog, content_dim = data.catalog, 0
    architecture = catalog.architecture(train.embedding_dim, [], WIDTHS[-1], (VECTORS,))
    # Moments are of the numbers alone: content goes in as it is.
    if content_width is not None:
        content = torch.from_numpy(data.require_content(name))
        content_dim = content.shape[1]
        catalog = replace(catalog, floats=torch.cat([catalog.floats, content], dim=1))
    mean, deviation = (torch.tensor(architecture[part]) for part in ("mean", "deviation"))
    sizes = architecture["vocabularies"], architecture["dims"]
    return ItemTower(*sizes, mean, deviation, content_dim, content_width or 0, WIDTHS), catalog
