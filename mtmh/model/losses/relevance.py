"""L_r: relevance by distillation from the frozen content encoder (paper section 3)."""

from typing import Any

import torch
from torch import Tensor


def relevance_loss(logits: Tensor, teacher_logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """L_r = KL(q || p) = sum over {positive, negatives} of q log(q / p), averaged over the batch.

    Arguments: `logits` float [B, P], s(x, y) / tau_p *without* logQ (the correction would contaminate the
    distillation); `teacher_logits` float [B, P], c(x, y) = <F_x, F_y> / tau_q, over the same columns. Masked columns
    are -inf in both; `weight` float [B], default 1: 0 leaves a row out, such as a trigger without content, whose q
    would be flat. Returns a scalar; its gradient in the logits is weight * (p - q) / B. The teacher gets no gradient.
    The sharper the teacher (small tau_q), the larger this loss: when tau_q changes, choose w_r again.

    >>> relevance_loss(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """
    scale = logits.new_ones(len(logits)) if weight is None else weight.to(logits.dtype)
    loss: Tensor = _Distillation.apply(logits, teacher_logits, scale / len(logits))
    return loss


class _Distillation(torch.autograd.Function):
    """As in `engagement_loss`, the gradient falls out of the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, teacher_logits: Tensor, scale: Tensor) -> Tensor:
        log_q, log_p = torch.log_softmax(teacher_logits, dim=1), torch.log_softmax(logits, dim=1)
        q = log_q.exp()
        # A masked column has q = 0 and -inf in both: its term is 0, not the NaN of 0 * (-inf + inf).
        divergence = torch.linalg.vecdot(q, log_q.sub_(log_p).nan_to_num_(nan=0.0))
        ctx.save_for_backward(log_p.exp_().sub_(q).mul_(scale.unsqueeze(1)))
        return (scale * divergence).sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * upstream[0], None, None
