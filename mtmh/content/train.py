"""The towers from frozen features: principal components, then what the concepts teach (paper
section 4).
"""

import numpy as np
import torch

from mtmh.config import ConceptSettings
from mtmh.content.concepts import Concepts
from mtmh.content.contrastive import Fitted, PairBatches, fit
from mtmh.content.encoder import Tower
from mtmh.content.features import ContentFeatures
from mtmh.content.projection import Projection, project, standardize


def untrained_tower(
    features: ContentFeatures, start: Projection, dim: int, hidden: int, seed: int
) -> Tower:
    """A content tower that gives the vectors of `start`, the projection of `features`, also for new
    items.
    """
    tower = _seeded(features.widths, hidden, dim, seed)
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
    concept = _concept_tower(content, start, concept_vectors, seed)
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


def _concept_tower(content: Tower, start: Projection, vectors: np.ndarray, seed: int) -> Tower:
    """A concept tower that starts with the map of the content's text, so that an item and a concept
    of like words start near each other; without text, with the components of its own vectors.
    """
    width = vectors.shape[1]
    tower = _seeded({"text": width}, content.hidden, content.dim, seed + 1)
    features = ContentFeatures(vectors, np.ones((len(vectors), 1), bool), tower.widths)
    if next(iter(content.widths)) == "text":
        components = start.components[:width]
    else:
        components = project(vectors, content.dim).components
    tower.init_from_pca(*standardize(features), components)
    return tower


def _seeded(widths: dict[str, int], hidden: int, dim: int, seed: int) -> Tower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Tower(widths, hidden, dim)
