"""Items that a version does not hold, embedded by their features: the model's bottom and one head,
their id unknown.

Where content is given and the version places cold items by it, they take the place of their content
neighbours instead, as offline.
"""

from typing import Any

import numpy as np

from .scoring import Donors, mlp


class Unseen:
    """One head's embedding of items by features.

    `settings`: "vocabularies" (id feature -> values, number = index + 1), "fill" (what stands for a
    float feature not given), "layers" (of the MLP), "tau_q". `weights` by their names; `vectors`
    float32 [items, d] are the version's; `donors` where content decides.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        weights: dict[str, np.ndarray],
        vectors: np.ndarray,
        donors: Donors | None,
    ) -> None:
        self.numbers = [
            {value.encode(): n + 1 for n, value in enumerate(v)}
            for v in settings["vocabularies"].values()
        ]
        self.fill, self.layers, self.tau_q = (
            np.array(settings["fill"], np.float32),
            settings["layers"],
            settings["tau_q"],
        )
        self.weights, self.vectors, self.donors = weights, vectors, donors

    def embed(
        self, ids: np.ndarray, floats: np.ndarray, content: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32 [n, d], and bool [n]: whether the item has any feature.

        `ids` object (bytes) [n, id features], empty or unknown values say nothing; `floats` float32
        [n, float features], NaN where not given; `content` float32 [n, c], of any length, zero
        where not given. Raises ValueError when a number is infinite.
        """
        if np.isinf(floats).any() or not np.isfinite(content).all():
            raise ValueError(
                "float_features and content must be finite; NaN in float_features stands for not "
                "given"
            )
        numbered = np.zeros((len(ids), len(self.numbers)), np.int64)
        for column, numbers in enumerate(self.numbers):
            numbered[:, column] = [numbers.get(value, 0) for value in ids[:, column]]
        has_features = numbered.any(axis=1) | ~np.isnan(floats).all(axis=1)
        vectors = self._bottom_and_head(numbered, np.where(np.isnan(floats), self.fill, floats))
        if self.donors is not None:
            has_features |= content.any(axis=1)
            length = np.linalg.norm(content, axis=1, keepdims=True)
            unit = np.divide(content, length, out=np.zeros_like(content), where=length > 0)
            vectors = self.donors.place_by_content(vectors, unit, self.vectors, self.tau_q)
        return vectors, has_features

    def _bottom_and_head(self, ids: np.ndarray, floats: np.ndarray) -> np.ndarray:
        weights = self.weights
        parts = [np.repeat(weights["unknown_item"], len(ids), axis=0)]
        parts += [weights[f"table.{column}"][ids[:, column]] for column in range(ids.shape[1])]
        if len(self.fill):
            standard = (floats - weights["dense.mean"]) / weights["dense.deviation"]
            parts.append(
                (standard @ weights["dense.layer.weight"].T + weights["dense.layer.bias"]).clip(0)
            )
        embedded: np.ndarray = mlp(np.concatenate(parts, axis=1), weights, self.layers)
        return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)
