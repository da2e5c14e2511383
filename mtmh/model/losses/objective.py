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
from mtmh.model.losses.gradient import with_gradient
from mtmh.model.losses.matrix import losses_by_matrix
from mtmh.model.losses.rows import losses_by_row

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
    known = content[batch.trigger].any(dim=1)  # a trigger without content has nothing to teach
    parts: dict[str, Tensor] = {}
    totals = []
    for head, unit in vectors.items():
        share = shares[head]
        with torch.no_grad():
            trigger, columns = _factors(unit, batch, tau_p, precision or unit.dtype)
            similarity = (trigger @ columns.T).to(unit.dtype)
            teacher = None
            if share[1] > 0:
                content_trigger, content_columns = _factors(content, batch, tau_q, precision or content.dtype)
                teacher = (content_trigger @ content_columns.T).to(unit.dtype)
            by_row = similarity.device.type == "cpu" and similarity.dtype == torch.float32
            losses = losses_by_row if by_row else losses_by_matrix
            *found, slope = losses(similarity, teacher, batch, share, known, logq)
            slope = slope.to(trigger.dtype)
            gradient = torch.zeros_like(unit)
            gradient[: len(columns)] = slope.T @ trigger
            gradient.index_add_(0, batch.trigger, (slope @ columns).to(unit.dtype), alpha=1 / tau_p)
            value = torch.stack([part * loss for part, loss in zip(share, found, strict=True)]).sum()
        totals.append(with_gradient(unit, value.to(unit.dtype), gradient))
        named = zip(("engagement_loss", "relevance_loss"), share, found, strict=True)
        parts |= {f"{head}_head_{name}": loss for name, part, loss in named if part > 0}
    return torch.stack(totals).sum(), parts


def _factors(unit: Tensor, batch: Batch, tau: float, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Float [B, d] triggers / tau and [P, d] columns, whose product is the similarity matrix."""
    return (unit[batch.trigger] / tau).to(precision), unit[: len(batch.log_count)].to(precision)
