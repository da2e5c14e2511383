"""What stands between the heads' matrix products, forward and backward, a row at a time on the CPU.

PyTorch makes a pass over memory for each of these sums, products and gates; a row that stays in the
first cache needs one pass for all. Matrices are float32 or bfloat16; sums are float32's for both.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mtmh.kernels.bfloat16 import as_numpy, load_f32, store_f32

EPS_NORM = 1e-12  # a shorter vector is divided by this, as by torch's normalize


def add_bias_relu(linear_out: Tensor, bias: Tensor) -> Tensor:
    """relu(columns + bias) of the first columns, as many as `bias` has."""
    out = linear_out.new_empty(len(linear_out), len(bias))
    _add_bias_relu(as_numpy(linear_out), bias.numpy(), as_numpy(out))
    return out


def add_and_normalize(
    mlp_out: Tensor,
    linear_out: Tensor,
    bias: Tensor,
    n: int,
) -> tuple[Tensor, Tensor]:
    """Unit rows of mlp_out + bias + the last columns of `linear_out` (which may
    have none), and their lengths.

    Of the first `n` rows; float32 [n, d] and [n, 1].
    """
    unit, length = bias.new_empty(n, len(bias)), bias.new_empty(n, 1)
    inputs = as_numpy(mlp_out), as_numpy(linear_out), bias.numpy()
    _add_and_normalize(*inputs, unit.numpy(), length.numpy(), np.float32(EPS_NORM))
    return unit, length


def normalize_backward(upstream: Tensor, unit: Tensor, length: Tensor, out: Tensor) -> Tensor:
    """From the gradient in the unit rows to that in the rows before, into the
    last columns of `out`.

    Rows of `out` beyond the upstream's become 0. Returns the gradient in the bias, float32 [d].
    """
    bias = upstream.new_zeros(unit.shape[1])
    inputs = upstream.contiguous().numpy(), unit.numpy(), length.numpy()
    _normalize_backward(*inputs, as_numpy(out), bias.numpy())
    return bias


def relu_backward(gradient: Tensor, activation: Tensor, out: Tensor) -> Tensor:
    """From the gradient in a layer's `activation` to that before its relu, into
    the first columns of `out`.

    Returns the gradient in the bias, float32.
    """
    bias = torch.zeros(activation.shape[1])
    _relu_backward(as_numpy(gradient), as_numpy(activation), as_numpy(out), bias.numpy())
    return bias


def sum_into(parts: Sequence[Tensor], out: Tensor) -> None:
    """The sum of matrices into float32 `out`, of as many of their rows as it has."""
    _sum_into(tuple(as_numpy(part) for part in parts), out.numpy())


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _add_bias_relu(linear_out, bias, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        source, target = linear_out[row], out[row]
        for j in range(len(bias)):
            number = load_f32(source[j]) + bias[j]
            target[j] = store_f32(number if number > 0 else np.float32(0), target[j])


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _add_and_normalize(mlp_out, linear_out, bias, unit, length, eps):  # type: ignore[no-untyped-def]
    start = max(linear_out.shape[1] - len(bias), 0)
    for row in range(len(unit)):
        target, deep, linear = unit[row], mlp_out[row], linear_out[row][start:]
        total = np.float32(0)
        for j in range(len(bias)):
            target[j] = load_f32(deep[j]) + bias[j]
        for j in range(len(linear)):
            target[j] += load_f32(linear[j])
        for j in range(len(bias)):
            total += target[j] * target[j]
        length[row, 0] = max(np.sqrt(total), eps)
        inverse = np.float32(1) / length[row, 0]
        for j in range(len(bias)):
            target[j] *= inverse


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _normalize_backward(upstream, unit, length, out, bias):  # type: ignore[no-untyped-def]
    start = out.shape[1] - len(bias)
    for row in range(len(unit)):
        gradient, direction, target = upstream[row], unit[row], out[row][start:]
        along = np.float32(0)
        for j in range(len(bias)):
            along += gradient[j] * direction[j]
        inverse = np.float32(1) / length[row, 0]
        for j in range(len(bias)):
            number = (gradient[j] - direction[j] * along) * inverse
            bias[j] += number
            target[j] = store_f32(number, target[j])
    out[len(unit) :, start:] = 0


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _relu_backward(gradient, activation, out, bias):  # type: ignore[no-untyped-def]
    for row in range(len(gradient)):
        upstream, gate, target = gradient[row], activation[row], out[row]
        for j in range(len(bias)):
            number = load_f32(upstream[j]) if load_f32(gate[j]) > 0 else np.float32(0)
            bias[j] += number
            target[j] = store_f32(number, target[j])


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _sum_into(parts, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        target = out[row]
        target[:] = 0
        for part in parts:
            source = part[row]
            for j in range(len(target)):
                target[j] += load_f32(source[j])
