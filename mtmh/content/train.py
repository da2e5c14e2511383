"""The towers from frozen features: principal components, then what the concepts teach (paper section 4)."""

import numpy as np
import torch

from mtmh.config import ConceptSettings
from mtmh.content.concepts import Concepts
from mtmh.content.contrastive import Fitted, PairBatches, fit
from mtmh.content.features import Features
from mtmh.content.projection import Projection, project, standardize
from mtmh.content.towers import Tower


def untrained_tower(
    features: Features, start: Projection, dim: int, hidden: int, seed: int
) -> Tower:
    """A content tower that gives the vectors of `start`, the projection of `features`, also for new items."""
    tower = _seeded(features.widths, hidden, dim, seed)
    tower.start(*standardize(features), start.components)
    return tower


def train_tower(
    content: Tower,
    features: Features,
    start: Projection,
    concept_vectors: np.ndarray,
    concepts: Concepts,
    settings: ConceptSettings,
    seed: int,
    device: torch.device,
) -> Fitted:
    """Train `content`, an untrained tower, in place on the pairs of `concepts`.

    Arguments: `features` of all items; `concept_vectors` float32 [names, width] of the text backbone; `concepts` pairs
    of items that have a modality. Training stops by a seeded share of their items, whose pairs it does not train on.
    """
    concept = _concept_tower(content, start, concept_vectors, seed)
    held_out = _held_out(concepts, len(features.vectors), settings.held_out, seed)
    train, judged = (
        PairBatches(features, concept_vectors, concepts.of(items), settings.batch_size, dropout)
        for items, dropout in ((~held_out, settings.modality_dropout), (held_out, 0.0))
    )
    options = settings.model_dump(include={"epochs", "patience", "lr", "tau"})
    return fit(content, concept, train, judged, **options, seed=seed, device=device)


def _concept_tower(content: Tower, start: Projection, vectors: np.ndarray, seed: int) -> Tower:
    """It starts with the map of the content's text, so that an item and a concept of like words start near each other;
    without text among the content, with components of its own."""
    width = vectors.shape[1]
    tower = _seeded({"text": width}, content.hidden, content.dim, seed + 1)
    features = Features(vectors, np.ones((len(vectors), 1), bool), tower.widths)
    shared = next(iter(content.widths)) == "text"
    tower.start(
        *standardize(features),
        start.components[:width] if shared else project(vectors, content.dim).components,
    )
    return tower


def _seeded(widths: dict[str, int], hidden: int, dim: int, seed: int) -> Tower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Tower(widths, hidden, dim)


def _held_out(concepts: Concepts, n_items: int, share: float, seed: int) -> np.ndarray:
    """Bool [items]: a seeded share of the items with concepts, one at the least."""
    tagged = np.random.default_rng([seed, 1]).permutation(np.unique(concepts.item))
    held_out = np.zeros(n_items, bool)
    held_out[tagged[: max(round(share * len(tagged)), 1)]] = True
    return held_out
