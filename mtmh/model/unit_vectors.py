"""What the heads make of the bottom's vectors, forward and backward written out: no graph, no product for nothing.

A head's first layer and its linear map read the same vectors, so they are one product. Vectors and weights take the
products' type once a step.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mtmh.model.side_by_side import each

ROWS = 64  # products have a multiple of so many rows: the library compiles code for every shape that it meets
SHORTEST = 1e-12  # a shorter vector is divided by this and not by its length

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


def to_whole_rows(rows: Tensor) -> Tensor:
    """`rows`, and zeros until there are `whole_rows` of them."""
    return pad(rows, (0, 0, 0, -len(rows) % ROWS))


class _Units(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bottom: Tensor, precision: torch.dtype, starts: list[int], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        x, heads = to_whole_rows(bottom.to(precision)), [weights[a:b] for a, b in pairwise(starts)]
        ctx.passed = each(lambda head: _forward(x, head, bottom.dtype), heads)
        return tuple(passed.unit[: len(bottom)] for passed in ctx.passed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        found = each(lambda one: _backward(*one), zip(ctx.passed, upstream, strict=True))
        slope = found[0][0]
        for more, _ in found[1:]:
            slope += more
        return slope, None, None, *(one for _, weights in found for one in weights)


class _Passed(NamedTuple):
    """What the backward pass of a head needs of its forward pass."""

    x: Tensor  # [rows, bottom width], of the products' type as are the next four
    first: Tensor  # [first width + out_dim, bottom width], first layer over linear map; without one the layer alone
    later: list[Tensor]  # weights of the other layers
    hidden: list[Tensor]  # [rows, width], their inputs
    unit: Tensor  # float [rows, out_dim]
    length: Tensor  # float [rows, 1]


def _forward(x: Tensor, weights: Weights, dtype: torch.dtype) -> _Passed:
    low = [one.to(x.dtype) for one in weights]
    layers = list(zip(low[::2], low[1::2], strict=False))
    (first, bias), later = layers[0], layers[1:]
    if not later:
        final, hidden = torch.addmm(bias, x, first.T).to(dtype), []
    else:
        width, linear = len(first), low[-1]
        wide = torch.addmm(pad(bias, (0, len(linear))), x, (first := torch.cat([first, linear])).T)
        hidden = [wide[:, :width].relu()]
        for weight, bias in later[:-1]:
            hidden.append(torch.addmm(bias, hidden[-1], weight.T).relu_())
        weight, bias = later[-1]
        final = torch.addmm(bias, hidden[-1], weight.T).to(dtype).add_(wide[:, width:])
    length = torch.linalg.vector_norm(final, dim=1, keepdim=True).clamp_min_(SHORTEST)
    return _Passed(x, first, [weight for weight, _ in later], hidden, final.div_(length), length)


def _backward(passed: _Passed, upstream: Tensor) -> tuple[Tensor, Weights]:
    """The gradients in the head's input, float [n, bottom width], and in its weights, in the order of the weights."""
    x, first, later, hidden, unit, length = passed
    n, dtype = len(upstream), upstream.dtype
    along = torch.linalg.vecdot(upstream, unit[:n]).unsqueeze(1)
    exact = torch.addcmul(upstream, unit[:n], along, value=-1).div_(length[:n])
    slope = last = to_whole_rows(exact.to(x.dtype))
    biases, found = [exact.sum(dim=0)], list[Tensor]()
    for weight, at in zip(reversed(later), reversed(hidden), strict=True):
        found.append((slope.T @ at).to(dtype))
        slope = torch.ops.aten.threshold_backward(slope @ weight, at, 0)
        biases.append(slope.sum(dim=0, dtype=dtype))
    both = torch.cat([slope, last], dim=1) if later else slope
    widest = (both.T @ x).to(dtype)
    found.append(widest[: slope.shape[1]])
    layers = [one for pair in zip(reversed(found), reversed(biases), strict=True) for one in pair]
    return (both @ first)[:n].to(dtype), layers + ([widest[slope.shape[1] :]] if later else [])
