"""What a user's history says of candidates: the preranker's user tower, and the items' side as it
was computed at export.

In numpy: on a CPU TorchScript takes longer, and ONNX Runtime saves 0.2 ms of a request that comes
alone (`mtmh bench backend`, docs/performance.md).
"""

from collections.abc import Mapping

import numpy as np

from .scoring import mlp, preranker_logits


class UserTower:
    """Arguments: task -> weight of its logits; clusters that a history is counted over; layers of
    the tower's MLP; `arrays`, its weights and the tables "table.*", a row an item.
    """

    def __init__(
        self,
        task_weights: dict[str, float],
        interests: int,
        layers: int,
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        self.task_weights, self.interests, self.layers = task_weights, interests, layers
        self.arrays = arrays

    def logits(self, item: np.ndarray, history: np.ndarray) -> np.ndarray:
        """float32 [R, C]; `item` int32 [R, C] and `history` int32 [R, H], newest first, -1 from
        where they end.
        """
        profile, arrays, weights = self._profile(history), self.arrays, self.task_weights
        users = {task: mlp(profile, arrays, self.layers, f"user_heads.{task}.") for task in weights}
        items = {task: arrays[f"table.{task}"] for task in weights}
        return preranker_logits(item, users, items, weights, arrays["table.new"])

    def _profile(self, history: np.ndarray) -> np.ndarray:
        """What the tower reads of a history: float32 [R, dim + interests + 1]."""
        arrays, present = self.arrays, (history >= 0).astype(np.float32)
        row = np.maximum(history, 0)
        fading = np.exp(-np.logaddexp(0, arrays["age"]) * np.arange(history.shape[1])).astype(
            np.float32
        )
        weight = fading * present
        mean = (weight[:, None] @ arrays["table.past"].take(row, axis=0))[:, 0]
        mean /= np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-6))
        events = present.sum(axis=1, keepdims=True)
        counts = np.zeros((len(row), self.interests), np.float32)
        np.add.at(counts, (np.arange(len(row))[:, None], arrays["table.interest"][row]), present)
        return np.concatenate([mean, counts / np.maximum(events, 1), np.log1p(events)], axis=1)
