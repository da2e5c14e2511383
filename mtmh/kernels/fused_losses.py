"""`objective_loss` of mtmh/model/losses.py on the CPU: loss and gradient in one
pass over each similarity matrix.

The work is split into tasks, some rows of a head's matrix each: from the product that makes them to
those that their gradient goes into. A step's tasks are worked on in threads.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mtmh.data.sampler import Batch
from mtmh.heads import LossWeights
from mtmh.kernels.elementwise import sum_into
from mtmh.kernels.fused_heads import pad_rows, padded_rows
from mtmh.kernels.loss_rows import add_to_rows, row_losses
from mtmh.kernels.products import product
from mtmh.kernels.threads import n_workers, parallel_map, split_range
from mtmh.model.losses import MASKED


def fused_objective_loss(
    vectors: dict[str, Tensor],
    content: Tensor,
    batch: Batch,
    weights: LossWeights,
    tau_p: float,
    tau_q: float,
    logq: bool,
    precision: torch.dtype,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What `objective_loss` returns, of the same arguments on the CPU.

    `vectors` are float32; `precision` of the similarities is float32 or bfloat16, losses and sums
    are not.
    """
    heads = sorted(vectors, key=lambda head: -weights[head][1])  # what takes longest goes first
    units = {head: vectors[head].detach() for head in heads}
    temperatures = [(content, tau_q), *((unit, tau_p) for unit in units.values())]
    teacher, *students = parallel_map(lambda task: _inputs(*task, batch, precision), temperatures)
    # Masked columns after the batch's own, as many as products are quick with.
    more = (0, padded_rows(len(batch.log_count)) - len(batch.log_count))
    log_count = pad(batch.log_count, more, value=MASKED)
    padded = replace(batch, log_count=log_count, log_q=pad(batch.log_q, more))
    # Some rows of a head's similarity matrix a task.
    parts_of_rows = split_range(len(batch.trigger), n_workers())
    slices = [(_rows_of(padded, rows), rows) for rows in parts_of_rows]
    tasks = [
        (student, teacher, *part, weights[head], logq)
        for head, student in zip(heads, students, strict=True)
        for part in slices
    ]
    results = parallel_map(lambda task: _slice_losses(*task), tasks)
    # The slices of a head are summed.
    starts = range(0, len(results), len(slices))
    by_head = [results[start : start + len(slices)] for start in starts]
    per_head = list(zip(by_head, units.values(), strict=True))
    summed = parallel_map(lambda task: _sum_slices(*task, batch, tau_p), per_head)
    sums = dict(zip(heads, summed, strict=True))
    parts: dict[str, Tensor] = {}
    terms = []
    names = ("engagement", "relevance")
    for head in vectors:
        for name, weight, loss in zip(names, weights[head], sums[head][0], strict=True):
            if weight > 0:
                parts[f"{head}_head_{name}_loss"] = loss
                terms.append(weight * loss)
    value = torch.stack(terms).sum().to(units[heads[0]].dtype)
    gradients = [sums[head][1] for head in vectors]
    return _ComputedGradient.apply(value, gradients, *vectors.values()), parts


class _ComputedGradient(torch.autograd.Function):
    """A scalar whose gradients in some tensors are computed already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        gradients = ctx.saved_tensors
        if scale != 1:
            gradients = [gradient * scale for gradient in gradients]
        return None, None, *gradients


class _SimilarityInputs(NamedTuple):
    """What a similarity matrix is the product of."""

    trigger: Tensor  # float [B, d], divided by tau
    columns: Tensor  # float [P and some masked ones, d]


def _inputs(unit: Tensor, tau: float, batch: Batch, precision: torch.dtype) -> _SimilarityInputs:
    trigger = unit.index_select(0, batch.trigger).div_(tau).to(precision)
    # Triggers may stand in the place of masked columns: what is there does not count.
    columns = pad_rows(unit[: padded_rows(len(batch.log_count))], precision)
    return _SimilarityInputs(trigger, columns)


# The two losses, their gradient in the columns, and that in the triggers times tau.
_SliceResult = tuple[Tensor, Tensor, Tensor]


def _slice_losses(
    student: _SimilarityInputs,
    teacher: _SimilarityInputs,
    batch: Batch,
    rows: slice,
    weights: tuple[float, float],
    logq: bool,
) -> _SliceResult:
    """What some rows, all that `batch` has, add to a head's losses and gradient."""
    trigger, content = student.trigger[rows], teacher.trigger[rows]
    share = len(trigger) / len(student.trigger)
    similarity = product(trigger, student.columns.T)
    teacher_similarity, has_content = None, torch.zeros_like(batch.trigger, dtype=torch.bool)
    if weights[1] > 0:  # a trigger without content has nothing to teach
        teacher_similarity, has_content = product(content, teacher.columns.T), content.any(dim=1)
    slice_weights = (weights[0] * share, weights[1] * share)
    *losses, gradient = row_losses(
        similarity, teacher_similarity, batch, slice_weights, has_content, logq
    )
    to_columns = product(gradient.T, trigger)
    return torch.stack(losses) * share, to_columns, product(gradient, student.columns)


def _sum_slices(
    results: list[_SliceResult],
    unit: Tensor,
    batch: Batch,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """The two losses of all rows, [2], and their gradient in the head's vectors, like `unit`."""
    losses, to_columns, to_triggers = zip(*results, strict=True)
    gradient, n_columns = torch.empty_like(unit), len(batch.log_count)
    sum_into(to_columns, gradient[:n_columns])
    gradient[n_columns:] = 0
    add_to_rows(torch.cat(to_triggers), batch.trigger, 1 / tau, gradient)
    return torch.stack(losses).sum(dim=0), gradient


def _rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, with all its columns."""
    # Hits are in order of their rows.
    bounds = batch.hit_row.new_tensor([rows.start, rows.stop])
    hit = slice(*torch.searchsorted(batch.hit_row, bounds).tolist())
    return replace(
        batch,
        trigger=batch.trigger[rows],
        positive=batch.positive[rows],
        weight=batch.weight[rows],
        hit_row=batch.hit_row[hit] - rows.start,
        hit_column=batch.hit_column[hit],
    )
