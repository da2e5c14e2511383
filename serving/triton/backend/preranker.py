"""Triton model preranker_<version>: one head's candidates ranked anew by what the user's history
says of each.

As mtmh.retrieval.retriever does, with the user's tower in numpy: what is left of the towers after
export is small, and torch would take longer to start and three times as long for a request.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .files import checked
from .mapped import arrays_of
from .scoring import mlp, preranker_logits, rank_normalize


class TritonPythonModel:
    """Answers all requests of a batch at once; the items' side of every task was computed at
    export.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Read the files beside this one, checksums first."""
        folder = checked(Path(args["model_repository"]) / args["model_version"])
        settings = json.loads((folder / "settings.json").read_text())
        self.task_weights: dict[str, float] = settings["weights"]
        self.interests: int = settings["interests"]
        self.layers: int = settings["layers"]
        self.arrays = arrays_of(folder / "weights")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: item, score (normalized over the candidates) and trigger_at, best
        first.
        """
        names = ("item", "score", "trigger_at", "history")
        read = [
            [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            for name in names
        ]
        item, score, trigger_at, history = map(np.concatenate, read)
        order, score = rank_normalize(score, self._logits(item, history), item >= 0)
        columns = {"item": item, "trigger_at": trigger_at}
        ranked = {
            name: np.take_along_axis(values, order, axis=1) for name, values in columns.items()
        }
        ranked["score"] = score
        ends = np.cumsum([0, *map(len, read[0])])
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, values[start:end]) for name, values in ranked.items()]
            )
            for start, end in pairwise(ends)
        ]

    def _logits(self, item: np.ndarray, history: np.ndarray) -> np.ndarray:
        """float32 [R, C]; `item` int32 [R, C] and `history` int32 [R, H], -1 from where they
        end.
        """
        user, arrays, weights = self._user(history), self.arrays, self.task_weights
        users = {task: mlp(user, arrays, self.layers, f"user_heads.{task}.") for task in weights}
        items = {task: arrays[f"table.{task}"] for task in weights}
        return preranker_logits(item, users, items, weights, arrays["table.new"])

    def _user(self, history: np.ndarray) -> np.ndarray:
        """What the user's tower reads of a history: float32 [R, dim + interests + 1]."""
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
