"""Triton model preranker_<version>: one head's candidates ranked anew by what the user's history says of each.

As mtmh.model.preranker.Preranker.logits and mtmh.retrieval.retriever.prerank do.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from torch import Tensor
from torch.nn.functional import embedding, softplus

from .files import checked
from .layers import mlp

TINY = torch.finfo(torch.float32).tiny


class TritonPythonModel:
    """Answers all requests of a batch at once; the items' side of every task was computed at export."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the files beside this one, checksums first."""
        folder = checked(Path(args["model_repository"]) / args["model_version"])
        told = json.loads((folder / "settings.json").read_text())
        gpu = args["model_instance_kind"] == "GPU"
        self.device = torch.device(f"cuda:{args['model_instance_device_id']}" if gpu else "cpu")
        self.task_weights: dict[str, float] = told["weights"]
        self.interests: int = told["interests"]
        self.layers: int = told["layers"]
        with np.load(folder / "arrays.npz") as arrays:
            self.arrays = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    @torch.inference_mode()
    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: item, score (normalized over the candidates) and trigger_at, best first."""
        names = ("item", "score", "trigger_at", "history")
        read = [[pb_utils.get_input_tensor_by_name(r, name).as_numpy() for r in requests] for name in names]
        item, score, trigger_at, history = (torch.from_numpy(np.concatenate(v)).to(self.device) for v in read)
        there = item >= 0
        known = score.clamp_min(TINY).log() + self._logits(item.clamp_min(0).long(), there, history)
        known = known.masked_fill(~there, -torch.inf)
        known -= known.amax(dim=1, keepdim=True).nan_to_num(neginf=0.0)
        best = torch.sort(-known, dim=1, stable=True).indices
        weight = known.exp()
        ranked = (weight / weight.sum(dim=1, keepdim=True).clamp_min(TINY)).masked_fill(~there, -torch.inf)
        columns = {"item": item, "score": ranked, "trigger_at": trigger_at}
        sorted_ = {name: values.gather(1, best).cpu().numpy() for name, values in columns.items()}
        ends = np.cumsum([0, *map(len, read[0])])
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, values[start:end]) for name, values in sorted_.items()])
            for start, end in pairwise(ends)
        ]

    def _logits(self, item: Tensor, there: Tensor, history: Tensor) -> Tensor:
        """float32 [R, C]; `item` int64 [R, C], `there` bool [R, C], `history` int32 [R, H], -1 from where it ends."""
        user = self._user(history)
        out = torch.zeros(item.shape, device=self.device)
        for task, weight in self.task_weights.items():
            asked = weight * mlp(user, self.arrays, self.layers, f"user_heads.{task}.")
            out += torch.bmm(embedding(item, self.arrays[f"table.{task}"]), asked[:, :, None])[:, :, 0]
        new = self.arrays["table.new"][item]
        old = _row_means(out, there & ~new)
        return out + torch.where(new, old - _row_means(out, there & new), 0.0)

    def _user(self, history: Tensor) -> Tensor:
        """What the user's tower reads of a history: float32 [R, dim + interests + 1]."""
        arrays, present = self.arrays, (history >= 0).float()
        row = history.clamp_min(0).long()
        age = torch.arange(history.shape[1], device=self.device)
        weight = torch.exp(-softplus(arrays["age"]) * age) * present
        total = weight.sum(dim=1, keepdim=True).clamp_min(1e-6)
        mean = torch.bmm(weight[:, None], embedding(row, arrays["table.past"]))[:, 0] / total
        events = present.sum(dim=1, keepdim=True)
        counts = torch.zeros(len(row), self.interests, device=self.device)
        counts.scatter_add_(1, arrays["table.interest"][row], present)
        return torch.cat([mean, counts / events.clamp_min(1), torch.log1p(events)], dim=1)


def _row_means(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values of each row, float32 [R, 1]; 0 where none is."""
    return (values * chosen).sum(dim=1, keepdim=True) / chosen.sum(dim=1, keepdim=True).clamp_min(1)
