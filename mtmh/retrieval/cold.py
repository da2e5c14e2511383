"""Items that T1 does not know, placed among the known by their content: retrieved from their first hour on."""

import faiss
import numpy as np

NEIGHBOURS = 10


def place_cold(vectors: np.ndarray, content: np.ndarray, known: np.ndarray, tau_q: float) -> np.ndarray:
    """The vectors with those of unknown items replaced, float32 [items, d], unit rows.

    Training never saw their ids: what the model knows of them is what all unknown items share, their creators and their
    numbers (and without train.id_dropout an unknown id was never trained). Each takes the direction of the mean
    of its NEIGHBOURS nearest known items by content, weighted as the teacher of the distillation weighs them: softmax
    of cosine / tau_q. The paper leaves cold items open.

    Arguments: `vectors` float32 [items, d], one head's unit rows; `content` float32 [items, c], unit rows, zero for an
    item without content, which stays where it is; `known` bool [items].
    """
    has_content = content.any(axis=1)
    donors, cold = np.flatnonzero(known & has_content), np.flatnonzero(~known & has_content)
    if not len(donors) or not len(cold):
        return vectors
    index = faiss.IndexFlatIP(content.shape[1])
    index.add(content[donors])
    cosine, near = index.search(content[cold], min(NEIGHBOURS, len(donors)))
    weight = np.exp((cosine - cosine[:, :1]) / tau_q)
    mean = np.einsum("ik,ikd->id", weight, vectors[donors[near]])
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    placed = vectors.copy()
    placed[cold] = np.where(length > 1e-6, mean / np.maximum(length, 1e-6), vectors[cold])
    return placed
