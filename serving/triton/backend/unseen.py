"""Items that a version does not hold, embedded by their features: the model's bottom and one head, their id unknown.

Where content is given and the version places cold items by it, they take the place of their content neighbours
instead, as mtmh/retrieval/cold.py does.
"""

from typing import Any

import faiss
import numpy as np

from .layers import mlp

NEIGHBOURS = 10


class Unseen:
    """One head's embedding of items by features.

    `told`: "vocabularies" (id feature -> values, number = place + 1), "fill" (what stands for a float feature not
    given), "layers" (of the MLP), "tau_q". `arrays`: the weights, and "donor" int64, "donor_content" float32 where
    content decides. `vectors` float32 [items, d] are the version's.
    """

    def __init__(self, told: dict[str, Any], arrays: dict[str, np.ndarray], vectors: np.ndarray) -> None:
        self.numbers = [{value.encode(): n + 1 for n, value in enumerate(v)} for v in told["vocabularies"].values()]
        self.fill, self.layers, self.tau_q = np.array(told["fill"], np.float32), told["layers"], told["tau_q"]
        self.weights = arrays
        self.vectors, self.donor, self.content = vectors, arrays.get("donor"), None
        if self.donor is not None and len(self.donor):
            self.content = faiss.IndexFlatIP(arrays["donor_content"].shape[1])
            self.content.add(arrays["donor_content"])

    def place(self, ids: np.ndarray, floats: np.ndarray, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32 [n, d], and bool [n]: whether anything is known of the item.

        `ids` object (bytes) [n, id features], empty or unknown values say nothing; `floats` float32 [n, float
        features], NaN where not given; `content` float32 [n, c], of any length, zero where not given. Raises
        ValueError when a number is infinite.
        """
        if np.isinf(floats).any() or not np.isfinite(content).all():
            raise ValueError("float_features and content must be finite; NaN in float_features stands for not given")
        numbered = np.zeros((len(ids), len(self.numbers)), np.int64)
        for column, known in enumerate(self.numbers):
            numbered[:, column] = [known.get(value, 0) for value in ids[:, column]]
        has_content = content.any(axis=1) if self.content is not None else np.zeros(len(ids), bool)
        told = numbered.any(axis=1) | ~np.isnan(floats).all(axis=1) | has_content
        vectors = self._embed(numbered, np.where(np.isnan(floats), self.fill, floats))
        if has_content.any():
            vectors[has_content] = self._among_neighbours(content[has_content], vectors[has_content])
        return vectors, told

    def _embed(self, ids: np.ndarray, floats: np.ndarray) -> np.ndarray:
        weights = self.weights
        parts = [np.repeat(weights["unknown_item"], len(ids), axis=0)]
        parts += [weights[f"table.{column}"][ids[:, column]] for column in range(ids.shape[1])]
        if len(self.fill):
            standard = (floats - weights["dense.mean"]) / weights["dense.deviation"]
            parts.append((standard @ weights["dense.layer.weight"].T + weights["dense.layer.bias"]).clip(0))
        embedded: np.ndarray = mlp(np.concatenate(parts, axis=1), weights, self.layers)
        return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)

    def _among_neighbours(self, content: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        assert self.content is not None
        assert self.donor is not None
        unit = content / np.linalg.norm(content, axis=1, keepdims=True)
        cosine, near = self.content.search(np.ascontiguousarray(unit), min(NEIGHBOURS, len(self.donor)))
        weight = np.exp((cosine - cosine[:, :1]) / self.tau_q)
        mean = np.einsum("ik,ikd->id", weight, self.vectors[self.donor[near]])
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        return np.where(length > 1e-6, mean / np.maximum(length, 1e-6), vectors).astype(np.float32)
