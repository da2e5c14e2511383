"""Adagrad whose step reads and writes what has a gradient and nothing else: rows of tables, and the dense weights."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
    (group,) = optimizer.param_groups
    moved = [_Weight(one, optimizer.state[one]["sum"], one.grad) for one in group["params"] if one.grad is not None]
    tables = [one for one in moved if one.grad.is_sparse]
    if all(one.weight.device.type == "cpu" for one in moved):
        _step_on_cpu(tables, [one for one in moved if not one.grad.is_sparse], np.float32(group["lr"]))
    else:
        for one in tables:
            _step_rows(*one, group["lr"])
            one.weight.grad = None
        optimizer.step()
    for one in moved:
        one.weight.grad = None


class _Weight(NamedTuple):
    weight: Tensor
    sums: Tensor  # of squares of its gradients
    grad: Tensor


def _step_rows(table: Tensor, sums: Tensor, grad: Tensor, lr: float) -> None:
    grad = grad.coalesce()
    rows, values = grad.indices()[0], grad.values()
    total = sums[rows].addcmul_(values, values)
    sums[rows] = total
    table.index_add_(0, rows, values / total.sqrt_().add_(EPS), alpha=-lr)


def _step_on_cpu(tables: list[_Weight], dense: list[_Weight], lr: np.float32) -> None:
    """Side by side: some columns of a table each, and all dense weights."""
    work: list[Callable[[], None]] = []
    for table, sums, grad in tables:
        rows, values = grad._indices()[0].numpy(), grad._values().numpy()
        some = partial(_rows, table.numpy(), sums.numpy(), rows, _first(rows), values, lr, np.float32(EPS))
        work += [partial(some, columns.start, columns.stop) for columns in ranges(values.shape[1], 2 * lanes())]
    if dense:
        weights = tuple(one.weight.view(-1).numpy() for one in dense)
        of_squares = tuple(one.sums.view(-1).numpy() for one in dense)
        grads = tuple(one.grad.reshape(-1).numpy() for one in dense)
        work.append(lambda: _dense(weights, of_squares, grads, lr, np.float32(EPS)))
    each(lambda one: one(), work)


@njit(cache=True, fastmath=True, error_model="numpy")
def _step(weight, total, slope, lr, eps):  # type: ignore[no-untyped-def]
    for j in range(len(slope)):
        total[j] += slope[j] * slope[j]
        weight[j] -= lr * slope[j] / (np.sqrt(total[j]) + eps)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _dense(weights, sums, grads, lr, eps):  # type: ignore[no-untyped-def]
    for i in range(len(weights)):
        _step(weights[i], sums[i], grads[i], lr, eps)


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
