"""L_e: co-engagement by InfoNCE (paper section 3)."""

import torch
from torch import Tensor

from mtmh.model.losses.gradient import with_gradient


def engagement_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """L_e = - log p_positive, weighted by pair and averaged over the batch.

    Arguments: `logits` float [B, P], s(x, y) / tau_p with logQ already subtracted and masked negatives at MASKED;
    `positive` int64 [B], each row's column of its positive; `weight` float [B], mean 1 (SIM times propensity).
    Returns a scalar; its gradient in the logits is weight * (p - onehot(positive)) / B.
    Relation to `relevance_loss`: the same columns, but that one takes the *uncorrected* logits.

    >>> engagement_loss(torch.zeros(1, 4), torch.tensor([2]), torch.ones(1))
    tensor(1.3863)
    """
    return with_gradient(logits, *engagement_gradient(logits.detach(), positive, weight))


def engagement_gradient(logits: Tensor, positive: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The value of `engagement_loss` and its gradient in the logits, float [B, P]."""
    column = positive.unsqueeze(1)
    scale = weight.to(logits.dtype).unsqueeze(1) / len(logits)
    log_p = torch.log_softmax(logits, dim=1)
    value = -(scale * log_p.gather(1, column)).sum()
    return value, log_p.exp_().mul_(scale).scatter_add_(1, column, -scale)
