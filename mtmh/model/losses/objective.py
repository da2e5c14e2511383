"""What each head minimizes (paper section 3 and Table 2), from one similarity matrix a head.

| objective    | engagement head | relevance head     |
|--------------|-----------------|--------------------|
| mtmh         | L_e             | L_e + w_r * L_r    |
| stmh         | L_e             | L_r                |
| mtsh         | (one head)      | L_e + w_r * L_r    |
| engagement   | L_e             | (none)             |
"""

from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import linear

from mtmh.data.sampler import Batch
from mtmh.model.losses.engagement import engagement_gradient
from mtmh.model.losses.gradient import with_gradient
from mtmh.model.losses.relevance import MASKED, relevance_gradient

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
) -> tuple[Tensor, dict[str, Tensor]]:
    """The scalar to minimize and its parts, named `<head>_<loss>`.

    Arguments: `vectors` {head: float32 [n, d] unit rows} of batch.items; `content` float32 [n, c] unit rows of the
    same items, zero rows for items without content; the rest as in TrainSettings.
    """
    share = {"engagement_loss": 1.0, "relevance_loss": 1.0 if objective == "stmh" else w_r}
    parts: dict[str, Tensor] = {}
    totals = []
    for head, unit in vectors.items():
        with torch.no_grad():
            logits = _logits(unit, batch, tau_p)
            found = {}
            if head == "engagement" or objective != "stmh":
                corrected = logits - batch.log_q if logq else logits
                found["engagement_loss"] = engagement_gradient(corrected, batch.positive, batch.weight)
            if head == "relevance":
                known = content[batch.trigger].any(dim=1)  # a trigger without content has nothing to teach
                found["relevance_loss"] = relevance_gradient(logits, _logits(content, batch, tau_q), known)
            value = torch.stack([share[name] * part for name, (part, _) in found.items()]).sum()
            slope = reduce(torch.add, [part.mul_(share[name]) for name, (_, part) in found.items()])
            gradient = _through_similarity(slope, unit, batch, tau_p)
        totals.append(with_gradient(unit, value, gradient))
        parts |= {f"{head}_head_{name}": part for name, (part, _) in found.items()}
    return torch.stack(totals).sum(), parts


def _logits(unit: Tensor, batch: Batch, tau: float) -> Tensor:
    """Float32 [B, P]: <trigger, column> / tau plus the column's log multiplicity, which the positive has not; MASKED at
    accidental hits."""
    logits = linear(unit[batch.trigger] / tau, unit[batch.columns], batch.log_count.to(unit.dtype))
    column = batch.positive.unsqueeze(1)
    logits.scatter_add_(1, column, -batch.log_count[column].to(unit.dtype))
    logits[batch.hit_row, batch.hit_column] = MASKED
    return logits


def _through_similarity(slope: Tensor, unit: Tensor, batch: Batch, tau: float) -> Tensor:
    """The gradient in `unit`, float32 [n, d], from that in the logits, float32 [B, P]."""
    gradient = torch.zeros_like(unit)
    gradient.index_add_(0, batch.columns, slope.T @ (unit[batch.trigger] / tau))
    return gradient.index_add_(0, batch.trigger, (slope / tau) @ unit[batch.columns])
