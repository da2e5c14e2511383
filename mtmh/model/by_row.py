"""What stands between the heads' products, a row at a time, on the CPU: the functions of `by_matrix`, fewer passes.

Matrices are float32 or bfloat16; sums are float32's for both.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mtmh.model.bfloat16 import numbers, single, stored
from mtmh.model.by_matrix import SHORTEST


def relu(wide: Tensor, bias: Tensor) -> Tensor:
    """As in `by_matrix`."""
    out = wide.new_empty(len(wide), len(bias))
    _relu(numbers(wide), bias.numpy(), numbers(out))
    return out


def normalized(deep: Tensor, wide: Tensor, bias: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """As in `by_matrix`."""
    unit, length = bias.new_empty(n, len(bias)), bias.new_empty(n, 1)
    _normalized(numbers(deep), numbers(wide), bias.numpy(), unit.numpy(), length.numpy(), np.float32(SHORTEST))
    return unit, length


def through_norm(upstream: Tensor, unit: Tensor, length: Tensor, out: Tensor) -> Tensor:
    """As in `by_matrix`."""
    bias = upstream.new_zeros(unit.shape[1])
    _through_norm(upstream.contiguous().numpy(), unit.numpy(), length.numpy(), numbers(out), bias.numpy())
    return bias


def through_relu(slope: Tensor, at: Tensor, out: Tensor) -> Tensor:
    """As in `by_matrix`."""
    bias = torch.zeros(at.shape[1])
    _through_relu(numbers(slope), numbers(at), numbers(out), bias.numpy())
    return bias


def add_up(parts: Sequence[Tensor], out: Tensor) -> None:
    """As in `by_matrix`."""
    _add_up(tuple(numbers(part) for part in parts), out.numpy())


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _relu(wide, bias, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        at, to = wide[row], out[row]
        for j in range(len(bias)):
            number = single(at[j]) + bias[j]
            to[j] = stored(number if number > 0 else np.float32(0), to[j])


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _normalized(deep, wide, bias, unit, length, shortest):  # type: ignore[no-untyped-def]
    before = max(wide.shape[1] - len(bias), 0)
    for row in range(len(unit)):
        to, at, beside, total = unit[row], deep[row], wide[row][before:], np.float32(0)
        for j in range(len(bias)):
            to[j] = single(at[j]) + bias[j]
        for j in range(len(beside)):
            to[j] += single(beside[j])
        for j in range(len(bias)):
            total += to[j] * to[j]
        length[row, 0] = max(np.sqrt(total), shortest)
        inverse = np.float32(1) / length[row, 0]
        for j in range(len(bias)):
            to[j] *= inverse


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _through_norm(upstream, unit, length, out, bias):  # type: ignore[no-untyped-def]
    before = out.shape[1] - len(bias)
    for row in range(len(unit)):
        slope, at, to, along = upstream[row], unit[row], out[row][before:], np.float32(0)
        for j in range(len(bias)):
            along += slope[j] * at[j]
        inverse = np.float32(1) / length[row, 0]
        for j in range(len(bias)):
            number = (slope[j] - at[j] * along) * inverse
            bias[j] += number
            to[j] = stored(number, to[j])
    out[len(unit) :, before:] = 0


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _through_relu(slope, at, out, bias):  # type: ignore[no-untyped-def]
    for row in range(len(slope)):
        come, gate, to = slope[row], at[row], out[row]
        for j in range(len(bias)):
            number = single(come[j]) if single(gate[j]) > 0 else np.float32(0)
            bias[j] += number
            to[j] = stored(number, to[j])


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _add_up(parts, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        to = out[row]
        to[:] = 0
        for part in parts:
            one = part[row]
            for j in range(len(to)):
                to[j] += single(one[j])
