"""The untrained encoder: principal components of the frozen vectors.

It stands where there are no concepts to learn.
"""

from typing import NamedTuple

import numpy as np

from mtmh.content.features import ContentFeatures


class Projection(NamedTuple):
    """Vectors, and the linear map that made them."""

    vectors: np.ndarray  # float32 [n, dim], unit rows
    components: np.ndarray  # float64 [width, min(dim, width)]
    explained_variance: float  # share of the total


def project(raw: np.ndarray, dim: int) -> Projection:
    """Principal components of `raw`, float [n, width].

    Centring removes what all texts share, so that cosines spread out around 0 for unrelated items.
    The sign of each component is fixed, so that every machine gives the same vectors. Missing
    components (dim > rank) are zeros.
    """
    centred = raw.astype(np.float64) - raw.mean(axis=0, dtype=np.float64)
    values, components = np.linalg.eigh(centred.T @ centred)
    components = components[:, ::-1][:, :dim]
    components *= np.sign(
        components[np.abs(components).argmax(axis=0), np.arange(components.shape[1])]
    )
    projected = np.zeros((len(raw), dim))
    projected[:, : components.shape[1]] = centred @ components
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    total = max(float(values.sum()), 1e-12)
    # A single text lies on the mean: it has a zero row, like an item without text.
    unit = np.divide(projected, length, out=np.zeros_like(projected), where=length > 1e-9)
    return Projection(unit.astype(np.float32), components, float(values[::-1][:dim].sum()) / total)


def project_features(features: ContentFeatures, dim: int) -> Projection:
    """Of all modalities together: `vectors` float32 [items, dim], a zero row for an item that has
    none of them.
    """
    has_content = features.has_content()
    # The scale of a single modality makes no difference.
    raw = features.vectors if len(features.widths) == 1 else standardized(features)
    projection = project(raw[has_content], dim)
    vectors = np.zeros((len(has_content), dim), dtype=np.float32)
    vectors[has_content] = projection.vectors
    return projection._replace(vectors=vectors)


def standardize(features: ContentFeatures) -> tuple[np.ndarray, np.ndarray]:
    """`mean` and `scale`, float64 [total]: with them each modality has mean 0 and a mean squared
    length of 1.

    So that no modality outweighs another only because its vectors differ more; taken over the items
    that have it.
    """
    means, scales = [], []
    for block, present in features.blocks():
        centre = block[present].mean(axis=0, dtype=np.float64)
        spread = np.sqrt(np.square(block[present] - centre).sum(axis=1).mean())
        means.append(centre)
        # Vectors that are all the same have no spread to divide by.
        scales.append(np.full(block.shape[1], max(spread, 1e-9)))
    return np.concatenate(means), np.concatenate(scales)


def standardized(features: ContentFeatures) -> np.ndarray:
    """Float64 [items, total]; zeros, the mean, where a modality is absent."""
    mean, scale = standardize(features)
    return np.where(features.filled(), (features.vectors - mean) / scale, 0.0)
