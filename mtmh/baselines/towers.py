"""The paper's item-to-item networks (section 9): ItemCF, NeuCF, content as features, HLLM, and the
true mixture of logits.

All take what the catalog says of an item, `ids` int64 [n, id features] and `floats` float32 [n,
numbers + content]: behind an item's numbers stands its frozen content vector where a model reads
it. All are trained by one loop (`mtmh.baselines.neural`), so they differ in form and input alone.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, silu, softmax

from mtmh.model.two_heads import DenseNN, SparseNN

VECTORS = "engagement"  # what the loop and its losses call the one head of a model
NUMBERS_DIM = 16  # width of the layer over an item's numbers, as in the two heads


class IdTable(nn.Module):
    """ItemCF: one vector an item id, not normalized; its score is `euclidean`."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.sparse = SparseNN([rows], [dim])

    def forward(self, ids: Tensor, floats: Tensor) -> dict[str, Tensor]:
        """int64 [n, id features] -> {VECTORS: float32 [n, dim]}."""
        return {VECTORS: self.sparse(ids[:, :1])}


class ItemTower(nn.Module):
    """NeuCF: id embeddings and numbers through an MLP to a unit vector; with content, HLLM.

    Arguments: `vocabularies`, `dims`, `mean` and `deviation` as of `TwoHeads`; `content_dim` of the
    content behind the numbers, 0 where the model reads none; `content_width`, 0 for content that is
    concatenated as it is (HLLM), else the width of a ReLU layer that makes features of it (the
    paper's MoL row); `widths` of the MLP after its input, the last one of the output.
    """

    def __init__(
        self,
        vocabularies: list[int],
        dims: list[int],
        mean: Tensor,
        deviation: Tensor,
        content_dim: int,
        content_width: int,
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.numbers = len(mean)
        self.sparse = SparseNN(vocabularies, dims)
        self.dense = DenseNN(mean, deviation, NUMBERS_DIM) if self.numbers else None
        # A unit vector's entries are about 1 / sqrt(dim), as are those of an id's embedding.
        self.content = nn.Linear(content_dim, content_width) if content_width else None
        bottom = sum(dims) + (NUMBERS_DIM if self.numbers else 0) + (content_width or content_dim)
        layers = [nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise((bottom, *widths))]
        self.mlp = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]

    def deep(self, ids: Tensor, floats: Tensor) -> Tensor:
        """The MLP's output, float32 [n, widths[-1]], not normalized."""
        numbers, content = floats[:, : self.numbers], floats[:, self.numbers :]
        # Side by side: ids, numbers, content; the MLP sees them together for the first time.
        parts = [self.sparse(ids)]
        if self.dense is not None:
            parts.append(self.dense(numbers))
        parts.append(content if self.content is None else torch.relu(self.content(content)))
        deep: Tensor = self.mlp(torch.cat(parts, dim=1))
        return deep

    def forward(self, ids: Tensor, floats: Tensor) -> dict[str, Tensor]:
        """int64 [n, id features], float32 [n, ..] -> {VECTORS: float32 [n, widths[-1]], unit
        rows}."""
        return {VECTORS: normalize(self.deep(ids, floats).float(), dim=1)}


class MixtureOfLogits(nn.Module):
    """MoL: P x P inner products of component vectors, mixed by a gate (Zhai et al. 2023).

        phi(q, x) = sum over p, r of pi_pr(q, x) <f_p(q), g_r(x)>
        pi(q, x)  = softmax(SiLU(a(q) * b(x) + c(dots)))    over all p, r

    f and g are linear maps of one tower's output to P unit vectors, a and b linear maps of it to
    P x P gates, c an MLP of the P x P inner products. An item's row holds f, g, a and b side by
    side, so that the tower is computed once.
    """

    def __init__(self, tower: ItemTower, width: int, components: int, dim: int) -> None:
        super().__init__()
        self.tower, self.components, self.dim = tower, components, dim
        pairs = components * components
        self.sizes = [components * dim, components * dim, pairs, pairs]
        self.maps = nn.Linear(width, sum(self.sizes))
        self.cross = nn.Sequential(nn.Linear(pairs, 32), nn.SiLU(), nn.Linear(32, pairs))

    def forward(self, ids: Tensor, floats: Tensor) -> dict[str, Tensor]:
        """int64 [n, id features], float32 [n, ..] -> {VECTORS: float32 [n, sum of sizes]}."""
        rows = self.maps(silu(self.tower.deep(ids, floats))).float()
        f, g, a, b = rows.split(self.sizes, dim=1)
        units = [
            normalize(part.unflatten(1, (self.components, self.dim)), dim=2).flatten(1)
            for part in (f, g)
        ]
        return {VECTORS: torch.cat([*units, a, b], dim=1)}

    def score(self, triggers: Tensor, columns: Tensor) -> Tensor:
        """phi of each trigger and each column, float [B, C], of their rows; within -1..1."""
        f, _, a, _ = triggers.split(self.sizes, dim=1)
        _, g, _, b = columns.split(self.sizes, dim=1)
        # All P x P dots of every pair, then a weight for each of them.
        shape = self.components, self.dim
        dots = torch.einsum("bpd,crd->bcpr", f.unflatten(1, shape), g.unflatten(1, shape))
        dots = dots.flatten(2)
        gate = softmax(silu(a[:, None] * b + self.cross(dots)), dim=2)
        return (gate * dots).sum(dim=2)

    def shortlist_vectors(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors whose inner product is the sum of all P x P dots, float [n, dim] each: the same
        mixture with a flat gate, which an index can search."""
        f, g, _, _ = rows.split(self.sizes, dim=1)
        shape = self.components, self.dim
        return f.unflatten(1, shape).sum(dim=1), g.unflatten(1, shape).sum(dim=1)


def inner_product(triggers: Tensor, columns: Tensor) -> Tensor:
    """<x, y>, float [B, C], of float [B, d] and [C, d]."""
    return triggers @ columns.T


def euclidean(triggers: Tensor, columns: Tensor) -> Tensor:
    """<[x, 1, -|x|^2], [2y, -|y|^2, 1]> = -|x - y|^2, float [B, C], of float [B, d] and [C, d]."""
    queries, keys = euclidean_vectors(triggers), euclidean_vectors(columns)
    return queries[0] @ keys[1].T


def euclidean_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys, float [n, d + 2] each, whose inner product is -|x - y|^2.

    Without -|x|^2, the same for all candidates of a trigger, the order is the same: [x, 1] . [2y,
    -|y|^2].
    """
    squares = (vectors * vectors).sum(dim=1, keepdim=True)
    ones = torch.ones_like(squares)
    return torch.cat([vectors, ones, -squares], dim=1), torch.cat(
        [2 * vectors, -squares, ones], dim=1
    )
