"""Trains the sequential form of Divide and Conquer (paper.md section 8), and as its special cases
SASRec and HSTU; embeds users and candidates.

Its examples are users' pasts and not items, so the loop of the two heads, which feeds items, does
not fit it: this is a loop of its own, a few lines long.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mtmh.clock import Progress
from mtmh.data.cluster_sequences import SequenceBatch
from mtmh.data.clusters import Clusters
from mtmh.model.losses import MASKED, engagement_loss
from mtmh.model.prompted_sequence import Block, PromptedSequence
from mtmh.model.transducer import TransducerBlock

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
    transducer: bool = False  # HSTU's blocks in the place of the transformer's


class SequenceSampler(Protocol):
    """What draws the batches: `ClusterSequences`, or `WholeSequences`."""

    clusters: Clusters

    @property
    def n_examples(self) -> int:
        """Of an epoch."""

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """Batches of epoch `number` (from 0)."""


def sequence_loss(model: PromptedSequence, batch: SequenceBatch, tau: float, logq: bool) -> Tensor:
    """L_e of the users' vectors over the batch's columns, a scalar; see `engagement_loss`.

    A column that was drawn m times counts m times, the positive once; accidental hits not at all.
    """
    if batch.after is None:
        users = model.users(batch.past, batch.cluster)
    else:
        users = model.states(batch.past, batch.cluster).flatten(0, 1).index_select(0, batch.after)
    logits = users @ model.candidates(batch.columns).T / tau
    offsets = batch.log_count.repeat(len(users), 1)
    offsets.scatter_(1, batch.positive.unsqueeze(1), 0.0)
    offsets[batch.hit_row, batch.hit_column] = MASKED
    logits = logits + offsets - (batch.log_q if logq else 0.0)
    return engagement_loss(logits, batch.positive, logits.new_ones(len(users)))


def train_sequence(
    sampler: SequenceSampler, settings: SequenceSettings, seed: int, prompted: bool = True
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
        partial(TransducerBlock, settings.length) if settings.transducer else Block,
    )
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=settings.lr)
    progress = Progress("sequence", settings.epochs * sampler.n_examples, "examples")
    for epoch in range(settings.epochs):
        for batch in sampler.epoch(epoch):
            loss = sequence_loss(model, batch, settings.tau, settings.logq)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.advance(len(batch.positive), f"loss {float(loss.detach()):.3f}")
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
