"""Trains the sequential form of Divide and Conquer (paper.md section 8), and embeds its users.

Its examples are users' pasts and not items, so the loop of the two heads, which feeds items, does
not fit it: this is a loop of its own, a few lines long.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtmh.clock import Progress
from mtmh.data.cluster_sequences import ClusterSequences, SequenceBatch
from mtmh.model.losses import MASKED, engagement_loss
from mtmh.model.prompted_sequence import PromptedSequence

USERS = 1024  # embedded at a time


@dataclass(frozen=True)
class SequenceSettings:
    """Of model and training; the paper leaves them open."""

    dim: int = 64
    length: int = 20  # behaviours that are read
    layers: int = 1
    attention_heads: int = 2
    epochs: int = 10
    batch_size: int = 512
    negatives: int = 512
    lr: float = 0.003  # Adam's
    tau: float = 0.1
    logq: bool = True


def sequence_loss(model: PromptedSequence, batch: SequenceBatch, tau: float, logq: bool) -> Tensor:
    """L_e of the users' vectors over the batch's columns, a scalar; see `engagement_loss`.

    A column that was drawn m times counts m times, the positive once; accidental hits not at all.
    """
    users = model.users(batch.past, batch.cluster)
    logits = users @ model.candidates(batch.columns).T / tau
    offsets = batch.log_count.repeat(len(users), 1)
    offsets.scatter_(1, batch.positive.unsqueeze(1), 0.0)
    offsets[batch.hit_row, batch.hit_column] = MASKED
    logits = logits + offsets - (batch.log_q if logq else 0.0)
    return engagement_loss(logits, batch.positive, logits.new_ones(len(users)))


def train_sequence(
    sampler: ClusterSequences, settings: SequenceSettings, seed: int, prompted: bool = True
) -> PromptedSequence:
    """The model after `settings.epochs`, ready for inference, on the CPU.

    The same seed gives the same model on the same machine. `prompted` False holds the prompts at 1.
    """
    torch.manual_seed(seed)
    model = PromptedSequence(
        len(sampler.clusters.of_item),
        sampler.clusters.count,
        settings.dim,
        settings.length,
        settings.layers,
        settings.attention_heads,
        prompted,
    )
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=settings.lr)
    examples = sum(map(len, sampler.examples))
    progress = Progress("sequence", settings.epochs * examples, "examples")
    for epoch in range(settings.epochs):
        for batch in sampler.epoch(epoch):
            loss = sequence_loss(model, batch, settings.tau, settings.logq)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.advance(len(batch.past), f"loss {float(loss.detach()):.3f}")
    return model.eval()


@torch.inference_mode()
def user_vectors(model: PromptedSequence, past: np.ndarray, cluster: int) -> np.ndarray:
    """Float32 [U, dim], unit rows: users int64 [U, length] as one cluster sees them."""
    blocks = torch.from_numpy(past).split(USERS)
    vectors = [model.users(block, torch.full((len(block),), cluster)) for block in blocks]
    return torch.cat(vectors).numpy()


@torch.inference_mode()
def candidate_vectors(model: PromptedSequence) -> np.ndarray:
    """Float32 [items, dim], unit rows: what an index holds."""
    items = torch.arange(model.table.num_embeddings - 1)
    return model.candidates(items).numpy()
