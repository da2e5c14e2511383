"""What stands between the heads' products, for any device and precision (`by_row` is for the CPU)."""

from collections.abc import Sequence

import torch
from torch import Tensor

SHORTEST = 1e-12  # a shorter vector is divided by this and not by its length


def relu(wide: Tensor, bias: Tensor) -> Tensor:
    """The first columns of `wide`, as many as `bias` has, plus `bias`, where that is positive, else 0."""
    return wide[:, : len(bias)].add(bias).relu_().to(wide.dtype)


def normalized(deep: Tensor, wide: Tensor, bias: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Unit rows of deep + the last columns of `wide` (which may have none) + bias, and their lengths.

    Of the first `n` rows; float [n, d] and [n, 1] of the bias' type.
    """
    final = deep[:n].to(bias.dtype).add_(bias)
    if wide.shape[1]:
        final.add_(wide[:n, -len(bias) :])
    length = torch.linalg.vector_norm(final, dim=1, keepdim=True).clamp_min_(SHORTEST)
    return final.div_(length), length


def through_norm(upstream: Tensor, unit: Tensor, length: Tensor, out: Tensor) -> Tensor:
    """From the gradient in the unit rows to that in the rows before, into the last columns of `out`.

    Rows of `out` beyond the upstream's become 0. Returns the gradient in the bias, of the upstream's type.
    """
    along = torch.linalg.vecdot(upstream, unit).unsqueeze(1)
    exact = torch.addcmul(upstream, unit, along, value=-1).div_(length)
    out[:, -unit.shape[1] :] = torch.nn.functional.pad(exact, (0, 0, 0, len(out) - len(exact)))
    return exact.sum(dim=0)


def through_relu(slope: Tensor, at: Tensor, out: Tensor) -> Tensor:
    """From the gradient in a layer's output `at` to that before its relu, into the first columns of `out`.

    Returns the gradient in the bias, float32 or the slope's type if that is more.
    """
    gated = torch.ops.aten.threshold_backward(slope, at, 0)
    out[:, : at.shape[1]] = gated
    return gated.sum(dim=0, dtype=torch.promote_types(slope.dtype, torch.float32))


def add_up(parts: Sequence[Tensor], out: Tensor) -> None:
    """The sum of matrices into `out`, of as many of their rows as it has, in its type."""
    out.copy_(parts[0][: len(out)])
    for part in parts[1:]:
        out += part[: len(out)]
