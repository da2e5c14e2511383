"""Adagrad whose step reads and writes what has a gradient and nothing else: rows of tables, and the dense weights."""

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

EPS = 1e-10


def adagrad(model: nn.Module, lr: float) -> torch.optim.Adagrad:
    """PyTorch's Adagrad, which keeps the sums of squares and steps the dense weights."""
    on_cpu = all(weight.device.type == "cpu" for weight in model.parameters())
    return torch.optim.Adagrad(model.parameters(), lr=lr, eps=EPS, fused=on_cpu)


@torch.no_grad()
def step(optimizer: torch.optim.Adagrad) -> None:
    """`optimizer.step()`, with own code for the rows of tables: PyTorch's makes a dozen passes over them.

    The gradients are gone afterwards.
    """
    for group in optimizer.param_groups:
        for table in group["params"]:
            if table.grad is not None and table.grad.is_sparse:
                grad = table.grad.coalesce()
                _step_rows(table, optimizer.state[table]["sum"], grad.indices()[0], grad.values(), group["lr"])
                table.grad = None
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _step_rows(table: Tensor, sums: Tensor, rows: Tensor, grad: Tensor, lr: float) -> None:
    if table.device.type == "cpu":
        _rows(table.numpy(), sums.numpy(), rows.numpy(), grad.numpy(), np.float32(lr), np.float32(EPS))
        return
    total = sums[rows].addcmul_(grad, grad)
    sums[rows] = total
    table.index_add_(0, rows, grad / total.sqrt_().add_(EPS), alpha=-lr)


@njit(cache=True, fastmath=True, error_model="numpy")
def _rows(table, sums, rows, grad, lr, eps):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        weight, total, slope = table[rows[i]], sums[rows[i]], grad[i]
        for j in range(len(slope)):
            total[j] += slope[j] * slope[j]
            weight[j] -= lr * slope[j] / (np.sqrt(total[j]) + eps)
