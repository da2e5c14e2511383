"""Trains the prompted item-to-item model by the project's own loop (Divide and Conquer, paper.md
section 8).
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mtmh.config import TrainSettings
from mtmh.data.clusters import Clusters
from mtmh.device import pick_device
from mtmh.model.catalog import Catalog
from mtmh.model.prompted import PromptedItems, prompted_loss
from mtmh.model.two_heads import build_model
from mtmh.training.loop import Sampler, fit
from mtmh.training.step import pick_step


def train_prompted(
    catalog: Catalog,
    sampler: Sampler,
    clusters: Clusters,
    settings: TrainSettings,
    seed: int,
    prompted: bool = True,
) -> PromptedItems:
    """The model after `settings.epochs` of what `sampler` draws, ready for inference, on the CPU.

    Of `settings` it reads batch, epochs, lr, tau_p, logq, the widths and the device; products are
    float32's. `prompted` False holds the prompts at 1: then a PairSampler gives the plain
    engagement model, and a ClusterSampler the one with the negatives alone. The same seed gives the
    same model on the same machine. Raises UserError when the device is missing.
    """
    torch.manual_seed(seed)
    architecture = catalog.architecture(
        settings.embedding_dim, settings.hidden, settings.out_dim, ("engagement",)
    )
    model = PromptedItems(build_model(architecture), clusters.count, prompted)
    device = pick_device(settings.device, "train.device")
    # The fused kernels know two heads and no prompt: only their optimizer step is taken.
    step = pick_step(settings.kernels, device, torch.float32)
    step = replace(step, vectors=lambda model, ids, floats: model(ids, floats))
    loss = partial(
        prompted_loss,
        model=model,
        cluster_of=torch.from_numpy(clusters.of_item.astype(np.int64)).to(device),
        tau_p=settings.tau_p,
        logq=settings.logq,
    )
    no_teacher = torch.zeros(len(catalog.ids), 1)  # there is no distillation
    fit(model, sampler, catalog, no_teacher, step, loss, settings.epochs, settings.lr)
    return model.cpu().eval()


@torch.inference_mode()
def item_vectors(model: PromptedItems, catalog: Catalog) -> np.ndarray:
    """Float32 [items, out_dim], unit rows: every item as a candidate; what the index holds."""
    return model.candidates(model.items.bottom(catalog.ids, catalog.floats)).numpy()


@torch.inference_mode()
def trigger_vectors(
    model: PromptedItems, catalog: Catalog, triggers: np.ndarray, cluster: int
) -> np.ndarray:
    """Float32 [B, out_dim], unit rows: e_trigger^k of int [B] items, seen from one cluster."""
    rows: Tensor = torch.from_numpy(triggers.astype(np.int64))
    bottom = model.items.bottom(catalog.ids[rows], catalog.floats[rows])
    return model.triggers(bottom, torch.full((len(rows),), cluster)).numpy()
