"""What each head minimizes (paper section 3 and Table 2), from one similarity matrix a head.

| objective    | engagement head | relevance head     |
|--------------|-----------------|--------------------|
| mtmh         | L_e             | L_e + w_r * L_r    |
| stmh         | L_e             | L_r                |
| mtsh         | (one head)      | L_e + w_r * L_r    |
| engagement   | L_e             | (none)             |
"""

import torch
from torch import Tensor

from mtmh.data.sampler import Batch
from mtmh.model.losses.engagement import engagement_loss
from mtmh.model.losses.relevance import relevance_loss

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
    mask = _column_mask(batch).to(content.dtype)
    log_q = batch.log_q if logq else torch.zeros_like(batch.log_q)
    parts: dict[str, Tensor] = {}
    for head, unit in vectors.items():
        logits = torch.addmm(mask, unit[batch.trigger] / tau_p, unit[batch.columns].T)
        if head == "engagement" or objective != "stmh":
            parts[f"{head}_head_engagement_loss"] = engagement_loss(logits - log_q, batch.positive, batch.weight)
        if head == "relevance":
            trigger = content[batch.trigger]
            teacher = torch.addmm(mask, trigger / tau_q, content[batch.columns].T)
            known = trigger.any(dim=1)  # a trigger without content has nothing to teach
            parts["relevance_head_relevance_loss"] = relevance_loss(logits, teacher, known)
    weights = {"relevance_head_relevance_loss": 1.0 if objective == "stmh" else w_r}
    total = torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def _column_mask(batch: Batch) -> Tensor:
    """Float32 [B, P] added to every logit: log multiplicity, 0 at the positive, -inf at accidental hits."""
    mask = batch.log_count.expand(batch.masked.shape).masked_fill(batch.masked, -torch.inf)
    return mask.scatter_(1, batch.positive.unsqueeze(1), 0.0)
