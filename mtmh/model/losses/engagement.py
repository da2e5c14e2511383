"""L_e: co-engagement by InfoNCE (paper section 3)."""

from typing import Any

import torch
from torch import Tensor


def engagement_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """L_e = - log p_positive, weighted by pair and averaged over the batch.

    Arguments: `logits` float [B, P], s(x, y) / tau_p with logQ already subtracted and masked negatives at -inf;
    `positive` int64 [B], each row's column of its positive; `weight` float [B], mean 1 (SIM times propensity).
    Returns a scalar; its gradient in the logits is weight * (p - onehot(positive)) / B.
    Relation to `relevance_loss`: the same columns, but that one takes the *uncorrected* logits.

    >>> engagement_loss(torch.zeros(1, 4), torch.tensor([2]), torch.ones(1))
    tensor(1.3863)
    """
    loss: Tensor = _InfoNCE.apply(logits, positive, weight)
    return loss


class _InfoNCE(torch.autograd.Function):
    """The gradient falls out of the forward pass, so it is kept instead of the graph: a third of the memory traffic."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
        column = positive.unsqueeze(1)
        log_p = torch.log_softmax(logits, dim=1)
        scale = weight.to(logits.dtype).unsqueeze(1) / len(logits)
        loss = -(scale * log_p.gather(1, column)).sum()
        gradient = log_p.exp_().mul_(scale)
        ctx.save_for_backward(gradient.scatter_add_(1, column, -scale))
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * upstream[0], None, None
