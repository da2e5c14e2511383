"""What the heads make of the bottom's vectors, forward and backward written out: no graph, no product for nothing.

A head's first layer and its linear map read the same vectors, so they are one product. Vectors and weights take the
products' type once a step.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtmh.model import by_matrix, by_row
from mtmh.model.side_by_side import each

ROWS = 64  # products have a multiple of so many rows: the library compiles code for every shape that it meets

Weights = Sequence[Tensor]  # of a head: weight and bias of each layer, then the linear map's weight if there is one


def unit_vectors(bottom: Tensor, heads: Sequence[Weights], precision: torch.dtype) -> tuple[Tensor, ...]:
    """Float [n, out_dim] unit rows of each head, differentiable in `bottom` and in the weights.

    Arguments: `bottom` float [n, bottom width]; `heads` the weights of each; `precision` of the products. Lengths, the
    gradients of the weights and their sums over rows are of the bottom's type whatever `precision` is.
    """
    starts = list(accumulate(map(len, heads), initial=0))
    units: tuple[Tensor, ...] = _Units.apply(bottom, precision, starts, *(one for head in heads for one in head))
    return units


def whole_rows(n: int) -> int:
    """`n` rounded up to a multiple of ROWS."""
    return n + -n % ROWS


def to_whole_rows(rows: Tensor, precision: torch.dtype) -> Tensor:
    """`rows` as `precision`, and zeros until there are `whole_rows` of them."""
    if len(rows) % ROWS == 0:
        return rows.to(precision)
    whole = rows.new_empty((whole_rows(len(rows)), *rows.shape[1:]), dtype=precision)
    whole[: len(rows)] = rows
    whole[len(rows) :] = 0
    return whole


class _Units(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bottom: Tensor, precision: torch.dtype, starts: list[int], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        x, heads = to_whole_rows(bottom, precision), [weights[a:b] for a, b in pairwise(starts)]
        ctx.passed = each(lambda head: _forward(x, head, len(bottom)), heads)
        # Views: a tensor that is returned holds this graph, and the graph would hold it until garbage is collected.
        return tuple(passed.unit.detach() for passed in ctx.passed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        slopes, found = zip(*each(lambda one: _backward(*one), zip(ctx.passed, upstream, strict=True)), strict=True)
        slope = upstream[0].new_empty(len(upstream[0]), ctx.passed[0].x.shape[1])
        _between(slopes[0], upstream).add_up(slopes, slope)
        return slope, None, None, *(one for weights in found for one in weights)


class _Passed(NamedTuple):
    """What the backward pass of a head needs of its forward pass."""

    x: Tensor  # [whole rows of n, bottom width], of the products' type as are the next three
    first: Tensor  # [first width + out_dim, bottom width], first layer over linear map; without one the layer alone
    later: list[Tensor]  # weights of the other layers
    hidden: list[Tensor]  # [whole rows, width], their inputs
    unit: Tensor  # float [n, out_dim]
    length: Tensor  # float [n, 1]


def _forward(x: Tensor, weights: Weights, n: int) -> _Passed:
    between = _between(x, weights)
    layers = list(zip(weights[::2], weights[1::2], strict=False))
    (first, bias), later = layers[0], [(weight.to(x.dtype), bias) for weight, bias in layers[1:]]
    first = torch.cat([first, weights[-1]] if later else [first]).to(x.dtype)
    wide, deep, hidden = x[:, :0], x @ first.T, list[Tensor]()
    for weight, next_bias in later:
        if not hidden:
            wide = deep
        hidden.append(between.relu(deep, bias))
        deep, bias = hidden[-1] @ weight.T, next_bias
    return _Passed(x, first, [weight for weight, _ in later], hidden, *between.normalized(deep, wide, bias, n))


def _backward(passed: _Passed, upstream: Tensor) -> tuple[Tensor, Weights]:
    """The gradients in the head's input, of the products' type [whole rows of n, bottom width], and in its weights."""
    x, first, later, hidden, unit, length = passed
    between, dtype, width = _between(x, [upstream]), upstream.dtype, len(first) - unit.shape[1] if later else 0
    both = x.new_empty(len(x), len(first))  # the gradients in the first layer and in the linear map, side by side
    biases, found = [between.through_norm(upstream, unit, length, both)], list[Tensor]()
    slope = both[:, width:]
    for weight, at in zip(reversed(later), reversed(hidden), strict=True):
        found.append((slope.T @ at).to(dtype))
        to = both if at is hidden[0] else torch.empty_like(at)
        biases.append(between.through_relu(slope @ weight, at, to))
        slope = to[:, : at.shape[1]]
    widest = (both.T @ x).to(dtype)
    found.append(widest[: slope.shape[1]])
    layers = [one for pair in zip(reversed(found), reversed(biases), strict=True) for one in pair]
    return both @ first, layers + ([widest[width:]] if later else [])


def _between(x: Tensor, exact: Weights) -> ModuleType:
    """What is quicker of the two ways to do what stands between products."""
    return by_row if x.device.type == "cpu" and exact[0].dtype == torch.float32 else by_matrix
