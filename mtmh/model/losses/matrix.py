"""Both losses with their gradients from whole matrices, for any device and precision (`rows` is for the CPU)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtmh.data.sampler import Batch
from mtmh.model.by_matrix import add_up
from mtmh.model.losses.engagement import engagement_gradient
from mtmh.model.losses.relevance import MASKED, relevance_gradient


def losses_by_matrix(
    similarity: Tensor, teacher: Tensor | None, batch: Batch, share: tuple[float, float], known: Tensor, logq: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """L_e and L_r of a batch, and the gradient of share[0] * L_e + share[1] * L_r in `similarity`, float [B, P].

    Arguments: `similarity` float [B, P], <trigger, column> / tau_p, neither masked nor corrected; `teacher` float
    [B, P], the same of the content at tau_q, None where share[1] is 0; `known` bool [B], rows that the teacher has
    something to say on; `logq` subtracts batch.log_q in L_e. The losses are scalars, averaged over the batch and not
    weighed, 0 for one whose share is 0; below float32's precision nothing is summed.
    """
    logits = _logits(similarity, batch)
    engagement = relevance = logits.new_zeros(())
    gradient = torch.zeros_like(logits)
    if share[0] > 0:
        corrected = logits - batch.log_q if logq else logits
        engagement, slope = engagement_gradient(corrected, batch.positive, batch.weight)
        gradient.add_(slope, alpha=share[0])
    if teacher is not None:
        relevance, slope = relevance_gradient(logits, _logits(teacher, batch), known)
        gradient.add_(slope, alpha=share[1])
    return engagement, relevance, gradient


def gradient_by_matrix(columns: Sequence[Tensor], triggers: Tensor, batch: Batch, tau: float, unit: Tensor) -> Tensor:
    """The gradient in the vectors `unit` of the batch's items, like them.

    Arguments: `columns` gradients in the batch's columns and in masked ones after them, to be summed; `triggers` float
    [B, d], the gradient in the triggers' vectors over tau.
    """
    gradient = torch.zeros_like(unit)
    add_up(columns, gradient[: len(batch.log_count)])
    return gradient.index_add_(0, batch.trigger, triggers.to(unit.dtype), alpha=1 / tau)


def _logits(similarity: Tensor, batch: Batch) -> Tensor:
    """Similarity plus the column's log multiplicity, which the positive has not; MASKED at accidental hits."""
    similarity = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    logits = similarity + batch.log_count.to(similarity.dtype)
    column = batch.positive.unsqueeze(1)
    logits.scatter_(1, column, similarity.gather(1, column))
    logits[batch.hit_row, batch.hit_column] = MASKED
    return logits
