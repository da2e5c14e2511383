"""A loss and its gradient from one pass, in place of the graph: a third of the memory traffic of plain autograd."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def with_gradient(at: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """The scalar `value`, differentiable: its gradient in `at` is `gradient`, already computed, of the same shape."""
    return with_gradients([at], value, [gradient])


def with_gradients(at: Sequence[Tensor], value: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """The same of several tensors, a gradient each."""
    loss: Tensor = _Known.apply(value, gradients, *at)
    return loss


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *at: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        as_they_are = scale.device.type == "cpu" and scale == 1  # elsewhere, to look would be to wait
        return None, None, *(one if as_they_are else one * scale for one in ctx.saved_tensors)
