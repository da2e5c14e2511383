"""Adagrad whose step reads and writes what has a gradient and nothing else: rows of tables, and the dense weights."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from mtmh.model.side_by_side import each, lanes, ranges

EPS = 1e-10


def adagrad(model: nn.Module, lr: float) -> torch.optim.Adagrad:
    """PyTorch's Adagrad, which keeps the sums of squares."""
    return torch.optim.Adagrad(model.parameters(), lr=lr, eps=EPS)


@torch.no_grad()
def step(optimizer: torch.optim.Adagrad) -> None:
    """`optimizer.step()`, with own code where PyTorch's takes long: rows of tables, and all weights on the CPU.

    The gradients are gone afterwards.
    """
    on_cpu: list[Callable[[], None]] = []
    for group in optimizer.param_groups:
        for weight in group["params"]:
            grad, state = weight.grad, optimizer.state[weight]["sum"]
            if grad is None or not (grad.is_sparse or weight.device.type == "cpu"):
                continue
            if weight.device.type != "cpu":
                _step_rows(weight, state, grad.coalesce(), group["lr"])
            else:
                on_cpu += _steps(weight, state, grad, np.float32(group["lr"]))
            weight.grad = None
    each(lambda one: one(), on_cpu)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _step_rows(table: Tensor, sums: Tensor, grad: Tensor, lr: float) -> None:
    rows, values = grad.indices()[0], grad.values()
    total = sums[rows].addcmul_(values, values)
    sums[rows] = total
    table.index_add_(0, rows, values / total.sqrt_().add_(EPS), alpha=-lr)


def _steps(weight: Tensor, sums: Tensor, grad: Tensor, lr: np.float32) -> list[Callable[[], None]]:
    """The step of one weight on the CPU, in parts that can be done side by side: of a table, some columns each."""
    if not grad.is_sparse:
        flat = weight.view(-1).numpy(), sums.view(-1).numpy(), grad.reshape(-1).numpy()
        return [lambda: _step(*flat, lr, np.float32(EPS))]
    rows, values = grad._indices()[0].numpy(), grad._values().numpy()
    some = partial(_rows, weight.numpy(), sums.numpy(), rows, _first(rows), values, lr, np.float32(EPS))
    return [partial(some, columns.start, columns.stop) for columns in ranges(values.shape[1], lanes())]


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _step(weight, total, slope, lr, eps):  # type: ignore[no-untyped-def]
    for j in range(len(slope)):
        total[j] += slope[j] * slope[j]
        weight[j] -= lr * slope[j] / (np.sqrt(total[j]) + eps)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _rows(table, sums, rows, first, grad, lr, eps, start, stop):  # type: ignore[no-untyped-def]
    """The step of some columns; gradients of one row are summed, and the step is that of their sum."""
    for i in range(len(rows)):
        if first[i] != i:
            grad[first[i], start:stop] += grad[i, start:stop]
    for i in range(len(rows)):
        if first[i] == i:
            _step(table[rows[i], start:stop], sums[rows[i], start:stop], grad[i, start:stop], lr, eps)


@njit(nogil=True, cache=True)
def _first(rows):  # type: ignore[no-untyped-def]
    """The first place of the same row, for each; found in a table of its own, not of the catalog's size."""
    size = 2
    while size < 2 * len(rows):
        size *= 2
    at, first = np.full(size, -1), np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        slot = rows[i] % size
        while at[slot] >= 0 and rows[at[slot]] != rows[i]:
            slot = (slot + 1) % size
        if at[slot] < 0:
            at[slot] = i
        first[i] = at[slot]
    return first
