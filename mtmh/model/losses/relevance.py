"""L_r: relevance by distillation from the frozen content encoder (paper section 3)."""

import torch
from torch import Tensor

from mtmh.model.losses.gradient import with_gradient

# Where a column is masked, in student and teacher alike. Finite, so that its term q * (log q - log p) is 0 * 0 and not
# the NaN of 0 * (-inf + inf); far enough below any logit that its exponential is 0.
MASKED = -1e30


def relevance_loss(logits: Tensor, teacher_logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """L_r = KL(q || p) = sum over {positive, negatives} of q log(q / p), averaged over the batch.

    Arguments: `logits` float [B, P], s(x, y) / tau_p *without* logQ (the correction would contaminate the
    distillation); `teacher_logits` float [B, P], c(x, y) = <F_x, F_y> / tau_q, over the same columns. Masked columns
    are at MASKED in both; `weight` float [B], default 1: 0 leaves a row out, such as a trigger without content, whose
    q would be flat. Returns a scalar; its gradient in the logits is weight * (p - q) / B. The teacher gets no gradient.
    The sharper the teacher (small tau_q), the larger this loss: when tau_q changes, choose w_r again.

    >>> relevance_loss(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """
    weight = logits.new_ones(len(logits)) if weight is None else weight
    return with_gradient(logits, *relevance_gradient(logits.detach(), teacher_logits.detach(), weight))


def relevance_gradient(logits: Tensor, teacher_logits: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The value of `relevance_loss` and its gradient in the logits, float [B, P]."""
    scale = weight.to(logits.dtype) / len(logits)
    log_q, log_p = torch.log_softmax(teacher_logits, dim=1), torch.log_softmax(logits, dim=1)
    q = log_q.exp()
    divergence = torch.linalg.vecdot(q, log_q.sub_(log_p))
    return (scale * divergence).sum(), log_p.exp_().sub_(q).mul_(scale.unsqueeze(1))
