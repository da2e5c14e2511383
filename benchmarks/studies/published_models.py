"""What is measured beside printed numbers: two floors, and SASRec and HSTU as user-to-item models,
made of the project's own blocks and loop (`mtmh.training.prompted_sequence`)."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags

from benchmarks.studies.leave_one_out import LeaveOneOut, Scorer, figures, ranks
from mtmh.data.cluster_sequences import sequences_of
from mtmh.data.whole_sequences import WholeSequences
from mtmh.model.prompted_sequence import PromptedSequence
from mtmh.ragged import Ragged
from mtmh.training.prompted_sequence import (
    SequenceSettings,
    candidate_vectors,
    train_sequence,
    user_vectors,
)

CHOSEN_BY = "ndcg_at_10"
Loss = Callable[..., torch.Tensor]
# What ranks for the users of a split, and what is to be told of its training.
Fitted = tuple[Scorer, dict[str, float]]


@dataclass(frozen=True)
class Network:
    """A sequential model: its settings, its loss, and after how many epochs without a better
    validation figure it stops, of which `every` so many are looked at."""

    settings: SequenceSettings
    loss: Loss
    patience: int
    every: int

    @property
    def recipe(self) -> dict[str, Any]:
        """All of it, for the file of results."""
        rest = {"loss": self.loss.__name__, "patience": self.patience, "every": self.every}
        return asdict(self.settings) | rest

    def fit(self, data: LeaveOneOut, seed: int) -> Fitted:
        """Trained on `data.train`, as it was after the epoch that was best on validation."""
        settings = self.settings
        sampler = WholeSequences(
            data.train,
            data.n_items,
            settings.batch_size,
            settings.negatives,
            settings.length,
            seed,
        )
        # The last epoch is seldom the best one.
        best = Best(data, self.patience, self.every)
        loss = partial(self.loss, tau=settings.tau)
        model = train_sequence(sampler, settings, seed, False, loss, best)
        model.load_state_dict(best.weights)
        parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        notes = {"epoch": best.epoch, f"validation_{CHOSEN_BY}": best.figure}
        return network_scorer(model), {**notes, "parameters": parameters}


@dataclass
class Best:
    """The weights of the best epoch; true, which ends the training, `patience` epochs after it."""

    data: LeaveOneOut
    patience: int
    every: int
    epoch: int = 0
    epochs: int = 0
    figure: float = -1.0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, model: PromptedSequence) -> bool:
        # Ranking the catalog costs as much as an epoch: some are not looked at.
        self.epochs += 1
        if self.epochs % self.every:
            return False
        rank = ranks(network_scorer(model), self.data.train, self.data.validation)["unseen"]
        figure = figures(rank)[CHOSEN_BY]
        print(f"epoch {self.epochs}: validation {CHOSEN_BY} {figure:.4f}", flush=True)
        # A copy, as training goes on in the same weights.
        if figure > self.figure:
            self.figure, self.epoch = figure, self.epochs
            self.weights = copy.deepcopy(model.state_dict())
        return self.epochs - self.epoch >= self.patience


def network_scorer(model: PromptedSequence) -> Scorer:
    """Inner products of what the model expects after a past with every item."""
    items = candidate_vectors(model).T

    def score(past: Ragged) -> np.ndarray:
        users = user_vectors(model, sequences_of(past, model.length), 0)
        return np.asarray(users @ items)

    return score


def popularity(data: LeaveOneOut, seed: int) -> Fitted:
    """The items that most users have in training."""
    count = np.bincount(data.train.values, minlength=data.n_items).astype(np.float32)
    return lambda past: np.broadcast_to(count, (past.rows, data.n_items)), {}


def last_item_neighbours(data: LeaveOneOut, seed: int) -> Fitted:
    """ItemKNN: the cosine of an item's users and those of the newest item of the past."""
    # Columns of length 1: their products are cosines.
    ones = np.ones(len(data.train.values), np.float32)
    users = csr_matrix(
        (ones, data.train.values, data.train.indptr), (data.train.rows, data.n_items)
    )
    count = np.bincount(data.train.values, minlength=data.n_items)
    scaled = users @ diags(np.maximum(count, 1) ** -0.5)
    cosine = csr_matrix(scaled.T @ scaled, dtype=np.float32)
    return lambda past: cosine[past.values[past.indptr[:-1]]].toarray(), {}
