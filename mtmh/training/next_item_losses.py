"""Losses over a `SequenceBatch` for `train_sequence(loss=..)`: the softmax over sampled items or
over the whole catalog, and SASRec's own, a binary one against one negative.

The sampled one leaves a user's other items out of the negatives, the others do not: they teach that
an item that was read is not expected again. Where vectors have no unit length `tau` is 1.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from mtmh.data.cluster_sequences import SequenceBatch
from mtmh.model.prompted_sequence import PromptedSequence
from mtmh.training.prompted_sequence import examples_of, sequence_loss


def sampled_softmax(model: PromptedSequence, batch: SequenceBatch, tau: float) -> Tensor:
    """`sequence_loss` with logQ: over the batch's columns, a scalar."""
    return sequence_loss(model, batch, tau, logq=True)


def catalog_softmax(model: PromptedSequence, batch: SequenceBatch, tau: float) -> Tensor:
    """Mean of -log softmax(<u, y> / tau) over all items of the catalog, a scalar.

    [B, items] scores are in memory at a time, twice: for catalogs of tens of thousands.
    """
    items = torch.arange(model.table.num_embeddings - 1, device=batch.past.device)
    scores = examples_of(model, batch) @ model.candidates(items).T / tau
    return cross_entropy(scores, batch.columns[batch.positive])


def one_negative(model: PromptedSequence, batch: SequenceBatch, tau: float) -> Tensor:
    """Mean of -log sigmoid(s+) - log(1 - sigmoid(s-)), s- of an item drawn uniformly from the
    catalog for each example (Kang and McAuley 2018, section 3.6), a scalar.

    A negative that happens to be the positive counts nothing.
    """
    users, positive = examples_of(model, batch), batch.columns[batch.positive]
    drawn = torch.randint(0, model.table.num_embeddings - 1, positive.shape, device=users.device)
    # What is to be high, and what is to be low.
    score, against = (
        (users * model.candidates(item)).sum(dim=1) / tau for item in (positive, drawn)
    )
    return (softplus(-score) + softplus(against) * (drawn != positive)).mean()
