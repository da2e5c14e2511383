"""Heads over one bottom (paper section 3: two, engagement and relevance), each an
MLP to a unit vector.

The bottom is shared: SparseNN embeds id features, DenseNN maps float features, and the heads read
both side by side. No content embedding goes in: content enters by distillation only.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from mtmh.heads import HEADS


class TwoHeads(nn.Module):
    """Items to one unit vector a head.

    Arguments: `vocabularies` rows of each id table (row 0 = unknown), `dims` their widths, `mean`
    and `deviation` of the float features (both empty when there are none), `hidden` widths of each
    head's MLP, `out_dim` of its output, `heads` their names: the paper's two, or any others.
    """

    def __init__(
        self,
        vocabularies: list[int],
        dims: list[int],
        mean: Tensor,
        deviation: Tensor,
        hidden: list[int],
        out_dim: int,
        heads: tuple[str, ...] = HEADS,
    ) -> None:
        super().__init__()
        # Without numbers there is no layer for them.
        float_dim = 16 if len(mean) else 0
        self.sparse = SparseNN(vocabularies, dims)
        self.dense = DenseNN(mean, deviation, float_dim) if float_dim else None
        widths = [sum(dims) + float_dim, *hidden, out_dim]
        self.heads = nn.ModuleDict({name: Head(widths) for name in heads})

    def bottom(self, ids: Tensor, floats: Tensor) -> Tensor:
        """int64 [n, id features], float32 [n, float features] -> float32 [n, bottom width]."""
        latent = self.sparse(ids)
        return latent if self.dense is None else torch.cat([latent, self.dense(floats)], dim=1)

    def forward(self, ids: Tensor, floats: Tensor) -> dict[str, Tensor]:
        """int64 [n, id features], float32 [n, float features] -> {head: float32
        [n, out_dim], unit rows}.
        """
        shared = self.bottom(ids, floats)
        # Lengths are of the weights' type also where products are of a shorter one (autocast).
        vectors = {name: head(shared).to(shared.dtype) for name, head in self.heads.items()}
        return {name: normalize(vector, dim=1) for name, vector in vectors.items()}


class SparseNN(nn.Module):
    """One embedding table an id feature; row 0 of every table is of unknown ids.

    Gradients are sparse, so an optimizer step touches the rows of the batch and not the whole
    table.
    """

    def __init__(self, vocabularies: list[int], dims: list[int]) -> None:
        super().__init__()
        sizes = zip(vocabularies, dims, strict=True)
        tables = [nn.Embedding(rows, dim, sparse=True) for rows, dim in sizes]
        # Rows of unit length on average, whatever the width.
        for table in tables:
            nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
        self.tables = nn.ModuleList(tables)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [n, features] -> float32 [n, sum of dims]."""
        latent = [table(ids[:, i]) for i, table in enumerate(self.tables)]
        return torch.cat(latent, dim=1) if len(latent) > 1 else latent[0]


class DenseNN(nn.Module):
    """Float features, standardized by the mean and deviation of the training
    catalog, to a latent vector.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, dim: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(mean)
        self.deviation = nn.Buffer(deviation)
        self.layer = nn.Linear(len(mean), dim)

    def forward(self, floats: Tensor) -> Tensor:
        """float32 [n, features] -> float32 [n, dim]."""
        return torch.relu(self.layer((floats - self.mean) / self.deviation))


class Head(nn.Module):
    """An MLP beside a linear map of the same input; `widths` from input to output.

    The linear map keeps what the ids hold together; the MLP adds what needs two of them at once
    ("same town and same cuisine"). Against the linear map alone, one seed on validation data: Yelp
    gains recall in both heads and relevance in the relevance head; Beauty gains in the merge, not
    in each head. Against the MLP alone, one seed on Yelp: the engagement head gains recall, the
    relevance head gives recall for relevance.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers = [nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)]
        self.mlp = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]
        self.linear = nn.Linear(widths[0], widths[-1], bias=False) if len(widths) > 2 else None

    def forward(self, bottom: Tensor) -> Tensor:
        """float32 [n, bottom width] -> float32 [n, out_dim], not normalized."""
        deep: Tensor = self.mlp(bottom)
        return deep if self.linear is None else deep + self.linear(bottom)


def build_model(architecture: dict[str, Any]) -> TwoHeads:
    """A model with fresh weights from what `Catalog.architecture` says."""
    arrays = {name: torch.tensor(architecture[name]) for name in ("mean", "deviation")}
    return TwoHeads(**{**architecture, **arrays, "heads": tuple(architecture["heads"])})


def load_model(version: Path) -> TwoHeads:
    """The trained model of a version directory (model.json and
    weights.safetensors), ready for inference.
    """
    model = build_model(json.loads((version / "model.json").read_text())["architecture"])
    model.load_state_dict(load_file(version / "weights.safetensors"))
    return model.eval()
