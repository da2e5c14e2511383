"""The heads of `TwoHeads`, forward and backward written out: no graph, no product for nothing.

A head's first layer and its linear map read the same vectors, so they are one product. Vectors and
weights take the products' type once a step.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtmh.kernels.elementwise import (
    add_and_normalize,
    add_bias_relu,
    normalize_backward,
    relu_backward,
    sum_into,
)
from mtmh.kernels.products import product
from mtmh.kernels.threads import parallel_map
from mtmh.model.two_heads import TwoHeads

# Products have a multiple of so many rows: the library compiles code for every shape that it meets.
ROWS = 64

# Of a head: weight and bias of each layer, then the linear map's weight if there is one.
Weights = Sequence[Tensor]


def fused_vectors(
    model: TwoHeads,
    ids: Tensor,
    floats: Tensor,
    precision: torch.dtype,
) -> dict[str, Tensor]:
    """`model(ids, floats)` on the CPU: {head: float32 [n, out_dim], unit rows},
    differentiable in the weights.

    `precision` of the heads' products is float32 or bfloat16; lengths, and the sums over rows of
    the weights' gradients, are float32's.
    """
    heads = [list(head.parameters()) for head in model.heads.values()]
    units = unit_vectors(model.bottom(ids, floats), heads, precision)
    return dict(zip(model.heads, units, strict=True))


def unit_vectors(
    bottom: Tensor,
    heads: Sequence[Weights],
    precision: torch.dtype,
) -> tuple[Tensor, ...]:
    """Float32 [n, out_dim] unit rows of each head from `bottom` float32 [n,
    bottom width], differentiable.
    """
    starts = list(accumulate(map(len, heads), initial=0))
    weights = [weight for head in heads for weight in head]
    units: tuple[Tensor, ...] = _HeadsFunction.apply(bottom, precision, starts, *weights)
    return units


def padded_rows(n: int) -> int:
    """`n` rounded up to a multiple of ROWS."""
    return n + -n % ROWS


def pad_rows(rows: Tensor, precision: torch.dtype) -> Tensor:
    """`rows` as `precision`, and zeros until there are `padded_rows` of them."""
    if len(rows) % ROWS == 0:
        return rows.to(precision)
    padded = rows.new_empty((padded_rows(len(rows)), *rows.shape[1:]), dtype=precision)
    padded[: len(rows)] = rows
    padded[len(rows) :] = 0
    return padded


class _HeadsFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bottom: Tensor, precision: torch.dtype, starts: list[int], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        x, heads = pad_rows(bottom, precision), [weights[a:b] for a, b in pairwise(starts)]
        ctx.activations = parallel_map(lambda head: _forward(x, head, len(bottom)), heads)
        # Views: a tensor that is returned holds this graph, and the graph
        # would hold it until garbage is collected.
        return tuple(activations.unit.detach() for activations in ctx.activations)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        tasks = list(zip(ctx.activations, upstream, strict=True))
        gradients = parallel_map(lambda task: _backward(*task), tasks)
        to_bottom, to_weights = zip(*gradients, strict=True)
        gradient = upstream[0].new_empty(len(upstream[0]), ctx.activations[0].x.shape[1])
        sum_into(to_bottom, gradient)
        return gradient, None, None, *(weight for head in to_weights for weight in head)


class _Activations(NamedTuple):
    """What the backward pass of a head needs of its forward pass."""

    x: Tensor  # [padded rows of n, bottom width], of the products' type as are the next three
    first: Tensor  # [first width + out_dim, bottom width], first layer over linear map if any
    later: list[Tensor]  # weights of the other layers
    hidden: list[Tensor]  # [padded rows, width], their inputs
    unit: Tensor  # float32 [n, out_dim]
    length: Tensor  # float32 [n, 1]


def _forward(x: Tensor, weights: Weights, n: int) -> _Activations:
    (first, bias), *later = zip(weights[::2], weights[1::2], strict=False)
    # One product for the first layer and the linear map, which is there where
    # the MLP has more layers.
    first = torch.cat([first, weights[-1]] if later else [first]).to(x.dtype)
    linear_out, mlp_out = x[:, :0], product(x, first.T)
    if later:
        linear_out = mlp_out
    later_weights, hidden = list[Tensor](), list[Tensor]()
    for weight, next_bias in later:
        later_weights.append(weight.to(x.dtype))
        hidden.append(add_bias_relu(mlp_out, bias))
        mlp_out, bias = product(hidden[-1], later_weights[-1].T), next_bias
    unit, length = add_and_normalize(mlp_out, linear_out, bias, n)
    return _Activations(x, first, later_weights, hidden, unit, length)


def _backward(activations: _Activations, upstream: Tensor) -> tuple[Tensor, Weights]:
    """The gradients in the head's input, of the products' type [padded rows of n,
    bottom width], and its weights.
    """
    x, first, later, hidden, unit, length = activations
    dtype, width = upstream.dtype, len(first) - unit.shape[1] if later else 0
    # The gradients in the outputs of the first layer and of the linear map, beside each other.
    to_first = x.new_empty(len(x), len(first))
    to_biases, to_weights = [normalize_backward(upstream, unit, length, to_first)], list[Tensor]()
    gradient = to_first[:, width:]
    for weight, activation in zip(reversed(later), reversed(hidden), strict=True):
        to_weights.append(product(gradient.T, activation).to(dtype))
        out = to_first if activation is hidden[0] else torch.empty_like(activation)
        to_biases.append(relu_backward(product(gradient, weight), activation, out))
        gradient = out[:, : activation.shape[1]]
    to_first_weights = product(to_first.T, x).to(dtype)
    to_weights.append(to_first_weights[: gradient.shape[1]])
    layers = zip(reversed(to_weights), reversed(to_biases), strict=True)
    in_order = [tensor for weight_and_bias in layers for tensor in weight_and_bias]
    return product(to_first, first), in_order + ([to_first_weights[width:]] if later else [])
