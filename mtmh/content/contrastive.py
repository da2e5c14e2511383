"""The towers from frozen features: principal components, then contrastive training of the content
and the concept tower on (item, concept) pairs (paper section 4).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mtmh.clock import Progress
from mtmh.config import ConceptSettings
from mtmh.content.concepts import Concepts
from mtmh.content.encoder import Tower
from mtmh.content.features import ContentFeatures
from mtmh.content.projection import Projection, project, standardize

MOST_INVERSE_TAU = 100.0  # as in CLIP: a smaller tau makes training unstable


@dataclass(frozen=True)
class Fitted:
    """How the training went."""

    # A row an epoch, from 0 = the start: epoch, train_loss, held_out_loss, tau.
    curve: list[dict[str, float]]
    best_epoch: int  # whose weights the towers have
    masked_share: float  # of the in-batch negatives, in the held-out batches


@dataclass(frozen=True)
class ContrastiveBatch:
    """Some pairs, ready for both towers."""

    vectors: Tensor  # float32 [B, total], of the items
    present: Tensor  # bool [B, modalities]
    concept: Tensor  # float32 [B, concept width]
    shared: Tensor  # bool [B, B], the two items have a concept in common


class PairBatches:
    """Batches of the pairs of `concepts`, drawn by weight.

    `concept_vectors` float32 [names, width].
    """

    def __init__(
        self,
        features: ContentFeatures,
        concept_vectors: np.ndarray,
        concepts: Concepts,
        batch_size: int,
        dropout: float,
    ) -> None:
        self.features, self.concept_vectors, self.concepts = features, concept_vectors, concepts
        self.batch_size, self.dropout = batch_size, dropout
        shape = (len(features.vectors), len(concepts.names))
        ones = np.ones(len(concepts.item), np.float32)
        self.membership = csr_array((ones, (concepts.item, concepts.concept)), shape=shape)

    def __len__(self) -> int:
        return -(-len(self.concepts.item) // self.batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[ContrastiveBatch]:
        """One epoch; the batches are of equal size, or nearly so."""
        for rows in np.array_split(draw(self.concepts.weight, rng), len(self)):
            item = self.concepts.item[rows]
            present = drop_modalities(self.features.present[item], self.dropout, rng)
            members = self.membership[item]
            yield ContrastiveBatch(
                torch.from_numpy(self.features.vectors[item]),
                torch.from_numpy(present),
                torch.from_numpy(self.concept_vectors[self.concepts.concept[rows]]),
                torch.from_numpy((members @ members.T).toarray() > 0),
            )


def draw(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows as there are, int64 [n], in random order, row i on average n * weight_i / sum
    times.

    Drawn at even distances (systematic sampling), so that a row comes that often give or take one:
    with equal weights each row comes once.
    """
    n = len(weight)
    edges = np.cumsum(weight / weight.sum())
    rows = np.searchsorted(edges, (np.arange(n) + rng.random()) / n, side="right")
    return rng.permutation(np.minimum(rows, n - 1))


def drop_modalities(present: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """`present`, bool [n, modalities], with one modality taken from a `share` of the rows that have
    them all.

    So that the tower knows what to do without each of them. A row never loses its last modality.
    """
    modalities = present.shape[1]
    chosen = (rng.random(len(present)) < share) & present.all(axis=1) & (modalities > 1)
    lost = rng.integers(modalities, size=len(present))
    return present & ~(chosen[:, None] & (lost[:, None] == np.arange(modalities)))


def contrastive_loss(
    content: Tensor, concept: Tensor, shared: Tensor, inverse_tau: Tensor
) -> Tensor:
    """Mean over the batch of (- log p(concept i | item i) - log p(item i | concept i)) / 2.

    p(concept j | item i) = exp(<content_i, concept_j> / tau) / sum over k of exp(<content_i,
    concept_k> / tau), where k runs over the pairs of the batch whose item shares no concept with
    item i, and i itself; p(item | concept) likewise.

    Arguments: `content` and `concept` float [B, d] unit rows, row i of both is one pair; `shared`
    bool [B, B], symmetric, True where items i and j have a concept in common (the same item twice
    has): neither is a negative of the other; `inverse_tau` a scalar, 1 / tau. Returns a scalar with
    gradients in all three floats.

    >>> unit = torch.eye(2)
    >>> contrastive_loss(unit, unit, unit > 0, torch.tensor(1.0))
    tensor(0.3133)
    """
    pair = torch.arange(len(content), device=content.device)
    masked = shared.clone().fill_diagonal_(False)
    logits = (inverse_tau * content @ concept.T).masked_fill(masked, -torch.inf)
    return (cross_entropy(logits, pair) + cross_entropy(logits.T, pair)) / 2


def untrained_tower(
    features: ContentFeatures, start: Projection, dim: int, hidden: int, seed: int
) -> Tower:
    """A content tower that gives the vectors of `start`, the projection of `features`, also for new
    items.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = Tower(features.widths, hidden, dim)
    tower.init_from_pca(*standardize(features), start.components)
    return tower


def train_tower(
    content: Tower,
    features: ContentFeatures,
    start: Projection,
    concept_vectors: np.ndarray,
    concepts: Concepts,
    settings: ConceptSettings,
    seed: int,
    device: torch.device,
) -> Fitted:
    """Train `content`, an untrained tower, in place on the pairs of `concepts`.

    Arguments: `features` of all items; `concept_vectors` float32 [names, width] of the text
    backbone; `concepts` pairs of items that have a modality. Training stops by a seeded share of
    their items, whose pairs it does not train on.
    """
    # The concept tower starts with the map of the content's text, so that an item and a concept of
    # like words start near each other; without text, with the components of its own vectors.
    names, width = concept_vectors.shape
    words = ContentFeatures(concept_vectors, np.ones((names, 1), bool), {"text": width})
    if next(iter(content.widths)) == "text":
        concept_start = start._replace(components=start.components[:width])
    else:
        concept_start = project(concept_vectors, content.dim)
    concept = untrained_tower(words, concept_start, content.dim, content.hidden, seed + 1)
    # A seeded share of the items with concepts, one at the least, is held out.
    tagged = np.random.default_rng([seed, 1]).permutation(np.unique(concepts.item))
    is_held_out = np.zeros(len(features.vectors), bool)
    is_held_out[tagged[: max(round(settings.held_out * len(tagged)), 1)]] = True
    size = settings.batch_size
    trained = concepts.of_items(~is_held_out)
    train = PairBatches(features, concept_vectors, trained, size, settings.modality_dropout)
    held_out = PairBatches(features, concept_vectors, concepts.of_items(is_held_out), size, 0.0)
    options = settings.model_dump(include={"epochs", "patience", "lr", "tau"})
    return fit(content, concept, train, held_out, **options, seed=seed, device=device)


def fit(
    content: Tower,
    concept: Tower,
    train: PairBatches,
    held_out: PairBatches,
    epochs: int,
    patience: int,
    lr: float,
    tau: float,
    seed: int,
    device: torch.device,
) -> Fitted:
    """Train both towers in place with AdamW and leave them with the weights of the best epoch.

    Arguments: `train` and `held_out` pairs of different items; after `patience` epochs without a
    smaller loss on `held_out` training ends; `tau` the temperature at the start. The held-out
    batches are the same at every epoch. Epoch 0 is the start, so training never leaves the towers
    worse on `held_out` than they came.
    """
    model = nn.ModuleDict({"content": content, "concept": concept}).to(device)
    log_scale = nn.Parameter(torch.tensor(1 / tau, device=device).log())
    towers = {"params": list(model.parameters()), "lr": lr}
    optimizer = torch.optim.AdamW([towers, {"params": [log_scale], "lr": lr, "weight_decay": 0.0}])
    validation_batches = list(held_out.epoch(np.random.default_rng([seed, 0])))
    progress = Progress("content", epochs * len(train), "steps")
    curve: list[dict[str, float]] = []
    best, best_weights = 0, dict[str, Tensor]()
    for epoch in range(epochs + 1):
        # Epoch 0 is the start: it is only measured.
        losses = []
        if epoch:
            for batch in train.epoch(np.random.default_rng([seed, epoch])):
                loss = _loss(model, batch, log_scale, device)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        held_out_loss = _held_out_loss(model, validation_batches, log_scale, device)
        train_loss = {"train_loss": float(torch.stack(losses).mean())} if losses else {}
        tau_now = float(log_scale.detach().neg().exp().clamp(min=1 / MOST_INVERSE_TAU))
        curve.append({"epoch": epoch, **train_loss, "held_out_loss": held_out_loss, "tau": tau_now})
        progress.advance(len(losses), f"held-out loss {held_out_loss:.4f}")
        # Remember the best weights, and stop when they have been the best for long enough.
        if held_out_loss < curve[best]["held_out_loss"] or not best_weights:
            best = epoch
            best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        elif epoch - best >= patience:
            break
    model.load_state_dict(best_weights)
    model.cpu().eval()
    pairs = sum(batch.shared.numel() - len(batch.shared) for batch in validation_batches)
    masked = sum(int(batch.shared.sum()) - len(batch.shared) for batch in validation_batches)
    return Fitted(curve, best, masked / max(pairs, 1))


def _loss(
    model: nn.ModuleDict, batch: ContrastiveBatch, log_scale: Tensor, device: torch.device
) -> Tensor:
    content = model["content"](batch.vectors.to(device), batch.present.to(device))
    always = torch.ones((len(batch.concept), 1), dtype=torch.bool, device=device)
    concept = model["concept"](batch.concept.to(device), always)
    scale = log_scale.exp().clamp(max=MOST_INVERSE_TAU)
    return contrastive_loss(content, concept, batch.shared.to(device), scale)


@torch.no_grad()
def _held_out_loss(
    model: nn.ModuleDict, batches: list[ContrastiveBatch], log_scale: Tensor, device: torch.device
) -> float:
    losses = torch.stack([_loss(model, batch, log_scale, device) for batch in batches])
    sizes = torch.tensor(
        [len(batch.concept) for batch in batches], dtype=losses.dtype, device=device
    )
    return float((losses * sizes).sum() / sizes.sum())
