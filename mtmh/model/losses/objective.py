"""What each head minimizes (paper section 3 and Table 2), from one similarity matrix a head.

A task is some rows of a head's matrix, from the product that makes it to those that its gradient goes into; a step's
tasks are worked on side by side.

| objective    | engagement head | relevance head     |
|--------------|-----------------|--------------------|
| mtmh         | L_e             | L_e + w_r * L_r    |
| stmh         | L_e             | L_r                |
| mtsh         | (one head)      | L_e + w_r * L_r    |
| engagement   | L_e             | (none)             |
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mtmh.data.sampler import Batch
from mtmh.model.losses.gradient import with_gradients
from mtmh.model.losses.matrix import gradient_by_matrix, losses_by_matrix
from mtmh.model.losses.relevance import MASKED
from mtmh.model.losses.rows import gradient_by_row, losses_by_row
from mtmh.model.side_by_side import each, lanes, ranges
from mtmh.model.unit_vectors import to_whole_rows, whole_rows

HEADS_OF = {
    "mtmh": ("engagement", "relevance"),
    "stmh": ("engagement", "relevance"),
    "mtsh": ("relevance",),
    "engagement": ("engagement",),
}


def objective_loss(
    vectors: dict[str, Tensor],
    content: Tensor,
    batch: Batch,
    objective: str,
    tau_p: float,
    tau_q: float,
    w_r: float,
    logq: bool,
    precision: torch.dtype | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The scalar to minimize and its parts, named `<head>_<loss>`.

    Arguments: `vectors` {head: float32 [n, d] unit rows} of batch.items; `content` float [n, c] unit rows of the same
    items, zero rows for items without content; `precision` of the matrix products, by default the vectors' own; the
    rest as in TrainSettings. A loss of weight 0 is not computed.
    """
    shares = {"engagement": (1.0, 0.0), "relevance": (0.0, 1.0) if objective == "stmh" else (1.0, w_r)}
    heads = sorted(vectors, key=lambda head: -shares[head][1])  # what takes longest goes first
    units = {head: vectors[head].detach() for head in heads}
    taus = [(content, tau_q), *((unit, tau_p) for unit in units.values())]
    teacher, *students = each(lambda one: _Factors.of(*one, batch, precision), taus)
    whole = _in_whole_columns(batch)
    rows = [(some, _rows_of(whole, some)) for some in ranges(len(batch.trigger), lanes())]
    found = each(
        lambda task: _of_rows(*task),
        [(one, teacher, *some, shares[head], logq) for head, one in zip(heads, students, strict=True) for some in rows],
    )
    by_head = [found[start : start + len(rows)] for start in range(0, len(found), len(rows))]
    sums = each(lambda one: _of_head(*one, batch, tau_p), list(zip(by_head, units.values(), strict=True)))
    of_head = dict(zip(heads, sums, strict=True))
    parts: dict[str, Tensor] = {}
    weighed = []
    for head in vectors:
        named = zip(("engagement_loss", "relevance_loss"), shares[head], of_head[head][0], strict=True)
        for name, share, loss in named:
            if share > 0:
                parts[f"{head}_head_{name}"] = loss
                weighed.append(share * loss)
    value = torch.stack(weighed).sum().to(units[heads[0]].dtype)
    return with_gradients(list(vectors.values()), value, [of_head[head][1] for head in vectors]), parts


class _Factors(NamedTuple):
    """What a similarity matrix is the product of."""

    trigger: Tensor  # float [B, d], divided by tau
    columns: Tensor  # float [P and some masked ones, d]

    @classmethod
    def of(cls, unit: Tensor, tau: float, batch: Batch, precision: torch.dtype | None) -> "_Factors":
        precision = precision or unit.dtype
        trigger = unit.index_select(0, batch.trigger).div_(tau).to(precision)
        # Triggers may stand in the place of masked columns: what is there does not count.
        return cls(trigger, to_whole_rows(unit[: whole_rows(len(batch.log_count))], precision))


_Found = tuple[Tensor, Tensor, Tensor]  # the two losses, their gradient in the columns, and in the triggers times tau


def _of_rows(
    student: _Factors, teacher: _Factors, rows: slice, batch: Batch, share: tuple[float, float], logq: bool
) -> _Found:
    """What some rows, all that `batch` has, add to a head's losses and gradient."""
    trigger, content = student.trigger[rows], teacher.trigger[rows]
    part = len(trigger) / len(student.trigger)
    similarity = trigger @ student.columns.T
    taught, known = None, torch.zeros_like(batch.trigger, dtype=torch.bool)
    if share[1] > 0:  # a trigger without content has nothing to teach
        taught, known = content @ teacher.columns.T, content.any(dim=1)
    losses = losses_by_row if _by_row(similarity) else losses_by_matrix
    *found, slope = losses(similarity, taught, batch, (share[0] * part, share[1] * part), known, logq)
    slope = slope.to(trigger.dtype)
    return torch.stack(found) * part, slope.T @ trigger, slope @ student.columns


def _of_head(found: list[_Found], unit: Tensor, batch: Batch, tau: float) -> tuple[Tensor, Tensor]:
    """The two losses of all rows, [2], and their gradient in the head's vectors."""
    losses, to_columns, to_triggers = zip(*found, strict=True)
    of_vectors = gradient_by_row if _by_row(unit) else gradient_by_matrix
    return torch.stack(losses).sum(dim=0), of_vectors(to_columns, torch.cat(to_triggers), batch, tau, unit)


def _by_row(matrix: Tensor) -> bool:
    return matrix.device.type == "cpu" and matrix.dtype != torch.float64


def _in_whole_columns(batch: Batch) -> Batch:
    """The batch with masked columns after its own, as many as products are quick with."""
    more = (0, whole_rows(len(batch.log_count)) - len(batch.log_count))
    return replace(batch, log_count=pad(batch.log_count, more, value=MASKED), log_q=pad(batch.log_q, more))


def _rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, with all its columns."""
    hit = slice(*torch.searchsorted(batch.hit_row, batch.hit_row.new_tensor([rows.start, rows.stop])).tolist())
    return replace(
        batch,
        trigger=batch.trigger[rows],
        positive=batch.positive[rows],
        weight=batch.weight[rows],
        hit_row=batch.hit_row[hit] - rows.start,
        hit_column=batch.hit_column[hit],
    )
