"""Triton model preranker_<version>: one head's candidates ranked anew by what the user's history
says of each, as mtmh.retrieval.retriever does.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .files import checked
from .mapped import arrays_of
from .scoring import rank_normalize
from .user_tower import UserTower


class TritonPythonModel:
    """Answers all requests of a batch at once; the items' side of every task was computed at
    export.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Read the files beside this one, checksums first."""
        folder = checked(Path(args["model_repository"]) / args["model_version"])
        settings = json.loads((folder / "settings.json").read_text())
        self.tower = UserTower(
            settings["weights"],
            settings["interests"],
            settings["layers"],
            arrays_of(folder / "weights"),
        )

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
        order, score = rank_normalize(score, self.tower.logits(item, history), item >= 0)
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
