"""A loss and its gradient from one pass, in place of the graph: a third of the memory traffic of plain autograd."""

from typing import Any

import torch
from torch import Tensor


def with_gradient(at: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """The scalar `value`, differentiable: its gradient in `at` is `gradient`, already computed, of the same shape."""
    loss: Tensor = _Known.apply(at, value, gradient)
    return loss


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, at: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (scale,) = ctx.saved_tensors, upstream
        as_it_is = scale.device.type == "cpu" and scale == 1  # elsewhere, to look would be to wait
        return gradient if as_it_is else gradient * scale, None, None
