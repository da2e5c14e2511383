"""Trains the sequential form of Divide and Conquer (paper.md section 8), and as its special cases
SASRec and HSTU; embeds users and candidates.

Its examples are users' pasts and not items, so the loop of the two heads, which feeds items, does
not fit it: this is a loop of its own, a few lines long.
"""

from collections.abc import Callable, Iterator
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
SequenceLoss = Callable[[PromptedSequence, SequenceBatch], Tensor]


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
    dropout: float = 0.0  # of the embeddings and of what each layer adds
    unit: bool = True  # vectors of length 1; False: as long as they are, with tau 1 as SASRec's


class SequenceSampler(Protocol):
    """What draws the batches: `ClusterSequences`, or `WholeSequences`."""

    clusters: Clusters

    @property
    def n_examples(self) -> int:
        """Of an epoch."""

    def epoch(self, number: int) -> Iterator[SequenceBatch]:
        """Batches of epoch `number` (from 0)."""


def examples_of(model: PromptedSequence, batch: SequenceBatch) -> Tensor:
    """What the model expects at each of the B examples, float32 [B, dim]."""
    if batch.after is None:
        return model.users(batch.past, batch.cluster)
    return model.states(batch.past, batch.cluster).flatten(0, 1).index_select(0, batch.after)


def sequence_loss(model: PromptedSequence, batch: SequenceBatch, tau: float, logq: bool) -> Tensor:
    """L_e of the users' vectors over the batch's columns, a scalar; see `engagement_loss`.

    A column that was drawn m times counts m times, the positive once; accidental hits not at all.
    """
    users = examples_of(model, batch)
    logits = users @ model.candidates(batch.columns).T / tau
    offsets = batch.log_count.repeat(len(users), 1)
    offsets.scatter_(1, batch.positive.unsqueeze(1), 0.0)
    offsets[batch.hit_row, batch.hit_column] = MASKED
    logits = logits + offsets - (batch.log_q if logq else 0.0)
    return engagement_loss(logits, batch.positive, logits.new_ones(len(users)))


def train_sequence(
    sampler: SequenceSampler,
    settings: SequenceSettings,
    seed: int,
    prompted: bool = True,
    loss: SequenceLoss | None = None,
    after_epoch: Callable[[PromptedSequence], bool] | None = None,
) -> PromptedSequence:
    """The model after `settings.epochs`, ready for inference, on the CPU.

    The same seed gives the same model on the same machine. `prompted` False holds the prompts at 1.
    `loss` of a batch, by default `sequence_loss`; `after_epoch` looks at the model, ready for
    inference, after each epoch, and True ends the training.
    """
    torch.manual_seed(seed)
    model = sequence_model(sampler.clusters, settings, prompted)
    loss = loss or partial(sequence_loss, tau=settings.tau, logq=settings.logq)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=settings.lr)
    progress = Progress("sequence", settings.epochs * sampler.n_examples, "examples")
    for epoch in range(settings.epochs):
        model.train()
        for batch in sampler.epoch(epoch):
            value = loss(model, batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            progress.advance(len(batch.positive), f"loss {float(value.detach()):.3f}")
        if after_epoch and after_epoch(model.eval()):
            break
    return model.eval()


def sequence_model(
    clusters: Clusters, settings: SequenceSettings, prompted: bool
) -> PromptedSequence:
    """The untrained model, its weights by torch's own generator."""
    return PromptedSequence(
        len(clusters.of_item),
        clusters.count,
        settings.dim,
        settings.length,
        settings.layers,
        settings.attention_heads,
        prompted,
        partial(TransducerBlock, settings.length, dropout=settings.dropout)
        if settings.transducer
        else partial(Block, dropout=settings.dropout),
        settings.dropout,
        settings.unit,
    )


@torch.inference_mode()
def user_vectors(model: PromptedSequence, past: np.ndarray, cluster: int) -> np.ndarray:
    """Float32 [U, dim], unit rows where the model's are: users int64 [U, length] as one cluster
    sees them."""
    blocks = torch.from_numpy(past).split(USERS)
    vectors = [model.users(block, torch.full((len(block),), cluster)) for block in blocks]
    return torch.cat(vectors).numpy()


@torch.inference_mode()
def candidate_vectors(model: PromptedSequence) -> np.ndarray:
    """Float32 [items, dim], unit rows where the model's are: what an index holds."""
    items = torch.arange(model.table.num_embeddings - 1)
    return model.candidates(items).numpy()
