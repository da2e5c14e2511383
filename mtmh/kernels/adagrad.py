"""Adagrad's step on the CPU, which reads and writes what has a gradient: rows of
tables, and the dense weights.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mtmh.kernels.threads import n_workers, parallel_map, split_range


@torch.no_grad()
def fused_update(optimizer: torch.optim.Adagrad) -> None:
    """`optimizer.step()` and `optimizer.zero_grad()`: columns of tables and all
    dense weights, in threads.
    """
    (group,) = optimizer.param_groups
    rate, eps = np.float32(group["lr"]), np.float32(group["eps"])
    with_gradient = [
        _Weight(weight, optimizer.state[weight]["sum"], weight.grad)
        for weight in group["params"]
        if weight.grad is not None
    ]
    # Tables by columns: rows repeat in a gradient, so tasks that share rows would wait or collide.
    tasks: list[Callable[[], None]] = []
    for table, sums, gradient in (weight for weight in with_gradient if weight.gradient.is_sparse):
        rows, values = gradient._indices()[0].numpy(), gradient._values().numpy()
        step = partial(
            _step_rows, table.numpy(), sums.numpy(), rows, _first(rows), values, rate, eps
        )
        columns = split_range(values.shape[1], 2 * n_workers())
        tasks += [partial(step, part.start, part.stop) for part in columns]
    # The dense weights are few: one task has them all.
    if dense := [weight for weight in with_gradient if not weight.gradient.is_sparse]:
        weights = tuple(weight.weight.view(-1).numpy() for weight in dense)
        squares = tuple(weight.squares.view(-1).numpy() for weight in dense)
        gradients = tuple(weight.gradient.reshape(-1).numpy() for weight in dense)
        tasks.append(partial(_step_dense, weights, squares, gradients, rate, eps))
    parallel_map(lambda task: task(), tasks)
    optimizer.zero_grad()


class _Weight(NamedTuple):
    weight: Tensor
    squares: Tensor  # sums of the squares of its gradients
    gradient: Tensor


@njit(cache=True, fastmath=True, error_model="numpy")
def _step(weight, squares, gradient, rate, eps):  # type: ignore[no-untyped-def]
    for j in range(len(gradient)):
        squares[j] += gradient[j] * gradient[j]
        weight[j] -= rate * gradient[j] / (np.sqrt(squares[j]) + eps)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _step_dense(weights, squares, gradients, rate, eps):  # type: ignore[no-untyped-def]
    for i in range(len(weights)):
        _step(weights[i], squares[i], gradients[i], rate, eps)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _step_rows(table, squares, rows, first, gradient, rate, eps, start, stop):  # type: ignore[no-untyped-def]
    """The step of some columns; gradients of one row are summed, and the step is
    that of their sum.
    """
    for i in range(len(rows)):
        if first[i] != i:
            gradient[first[i], start:stop] += gradient[i, start:stop]
    for i in range(len(rows)):
        if first[i] == i:
            row = rows[i]
            _step(
                table[row, start:stop], squares[row, start:stop], gradient[i, start:stop], rate, eps
            )


@njit(nogil=True, cache=True)
def _first(rows):  # type: ignore[no-untyped-def]
    """The first position of the same row, for each; in a hash table, not one of
    the catalog's size.
    """
    size = 2
    while size < 2 * len(rows):
        size *= 2
    position, first = np.full(size, -1), np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        slot = rows[i] % size
        while position[slot] >= 0 and rows[position[slot]] != rows[i]:
            slot = (slot + 1) % size
        if position[slot] < 0:
            position[slot] = i
        first[i] = position[slot]
    return first
