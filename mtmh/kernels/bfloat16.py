"""Matrices of float32 or bfloat16 in compiled loops: NumPy has no bfloat16, so a
loop reads and writes its bits.

A bfloat16 is the upper half of a float32.
"""

from typing import Any

import numpy as np
import torch
from numba import uint16
from numba.extending import overload
from torch import Tensor


def as_numpy(matrix: Tensor) -> np.ndarray:
    """The matrix as NumPy can hold it: float32, or the bits of bfloat16 as
    uint16. Shares its memory.
    """
    is_bfloat16 = matrix.dtype == torch.bfloat16
    array: np.ndarray = (matrix.view(torch.uint16) if is_bfloat16 else matrix).numpy()
    return array


def load_f32(number: Any) -> Any:
    """A number of such a matrix as float32; in compiled loops alone, where
    `_load_f32` takes its place.
    """
    raise RuntimeError("load_f32 is for compiled loops")


def store_f32(number: Any, destination: Any) -> Any:
    """A float32 as the matrix that `destination` is a number of holds it; in
    compiled loops alone.
    """
    raise RuntimeError("store_f32 is for compiled loops")


@overload(load_f32)
def _load_f32(number):  # type: ignore[no-untyped-def]
    if number == uint16:
        return lambda number: np.int32(np.int32(number) << np.int32(16)).view(np.float32)
    return lambda number: number


@overload(store_f32)
def _store_f32(number, destination):  # type: ignore[no-untyped-def]
    def rounded(number, destination):  # type: ignore[no-untyped-def]  # to the nearest, ties to the even one
        bits = np.float32(number).view(np.int32)
        odd = (bits >> np.int32(16)) & np.int32(1)
        return np.uint16(np.int32(bits + np.int32(0x7FFF) + odd) >> np.int32(16))

    return rounded if destination == uint16 else lambda number, destination: number
