"""The paper's losses in plain PyTorch (section 3): what each head minimizes, for
any device and precision.

With trigger i, its positive j and the negatives k, over the set {j, k ..} of the batch's columns:

    s(x, y) = <E_x, E_y> / tau_p      p = softmax(s)      a head's own vectors E c(x, y) = <F_x,
    F_y> / tau_q      q = softmax(c)      the frozen content encoder's F, the teacher

    L_e  = - log p_j                  InfoNCE, with s - log Q in the place of s
    L_r  = KL(q || p)                 distillation, with the uncorrected s
    L_mt = L_e + w_r * L_r

Each head minimizes its own sum of the two, any number of heads over one bottom (`train.heads`);
four such lists have a short form, `train.objective` (`mtmh.heads.loss_weights`):

| objective    | engagement head | relevance head     |
|--------------|-----------------|--------------------|
| mtmh         | L_e             | L_e + w_r * L_r    |
| stmh         | L_e             | L_r                |
| mtsh         | (none)          | L_e + w_r * L_r    |
| engagement   | L_e             | (none)             |

`mtmh/kernels` computes the same faster on a CPU; tests hold the two together.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from mtmh.data.sampler import Batch
from mtmh.heads import LossWeights

# Logit of a masked column, in student and teacher alike. Finite, so that its
# term q * (log q - log p) is 0 * 0 and not the NaN of 0 * (-inf + inf); far
# enough below any logit that its exponential is 0.
MASKED = -1e30


def objective_loss(
    vectors: dict[str, Tensor],
    content: Tensor,
    batch: Batch,
    weights: LossWeights,
    tau_p: float,
    tau_q: float,
    logq: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The scalar to minimize and its parts, named `<head>_head_<loss>`, without a graph.

    Arguments: `vectors` {head: float [n, d] unit rows} of batch.items; `content` float [n, c] unit
    rows of the same items, zero rows for items without content; `weights` of L_e and L_r of each
    head in `vectors`; the rest as in TrainSettings. A loss of weight 0 is not computed.
    """
    offsets = column_offsets(batch)
    teacher_logits = similarity(content.detach(), batch) / tau_q + offsets
    # A trigger without content would have a flat q: it has nothing to teach.
    has_content = content.detach().index_select(0, batch.trigger).any(dim=1)
    terms, parts = list[Tensor](), dict[str, Tensor]()
    for head, units in vectors.items():
        engagement_weight, relevance_weight = weights[head]
        logits = similarity(units, batch) / tau_p + offsets
        if engagement_weight > 0:
            corrected = logits - batch.log_q if logq else logits
            engagement = engagement_loss(corrected, batch.positive, batch.weight)
            terms.append(engagement_weight * engagement)
            parts[f"{head}_head_engagement_loss"] = engagement.detach()
        if relevance_weight > 0:
            relevance = relevance_loss(logits, teacher_logits, has_content)
            terms.append(relevance_weight * relevance)
            parts[f"{head}_head_relevance_loss"] = relevance.detach()
    return torch.stack(terms).sum(), parts


def engagement_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """L_e = - log p_positive, weighted by pair and averaged over the batch; a scalar.

    Arguments: `logits` float [B, P], s(x, y) / tau_p with logQ already subtracted and masked
    columns at MASKED; `positive` int64 [B], each row's column of its positive; `weight` float [B],
    mean 1 (SIM times propensity). Its gradient in the logits is weight * (p - onehot(positive)) /
    B. Relation to `relevance_loss`: the same columns, but that one takes the *uncorrected* logits.

    >>> engagement_loss(torch.zeros(1, 4), torch.tensor([2]), torch.ones(1))
    tensor(1.3863)
    """
    return (weight * cross_entropy(logits, positive, reduction="none")).mean()


def relevance_loss(logits: Tensor, teacher_logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """L_r = KL(q || p) = sum over {positive, negatives} of q log(q / p), averaged
    over the batch; a scalar.

    Arguments: `logits` float [B, P], s(x, y) / tau_p *without* logQ (the correction would
    contaminate the distillation); `teacher_logits` float [B, P], c(x, y) / tau_q, over the same
    columns. Masked columns are at MASKED in both; `weight` float or bool [B], default 1: 0 leaves a
    row out, such as a trigger without content. Its gradient in the logits is weight * (p - q) / B;
    the teacher gets none. The sharper the teacher (small tau_q), the larger this loss: when tau_q
    changes, choose w_r again.

    >>> relevance_loss(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor(0.)
    """
    log_p, log_q = log_softmax(logits, dim=1), log_softmax(teacher_logits.detach(), dim=1)
    divergence = kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)
    return (divergence if weight is None else weight * divergence).mean()


def similarity(units: Tensor, batch: Batch) -> Tensor:
    """<trigger, column>, float [B, P], from the vectors float [n, d] of batch.items."""
    # Not units[trigger]: its gradient is summed in the order in which threads
    # come, other bits each time.
    return units.index_select(0, batch.trigger) @ units[: len(batch.log_count)].T


def column_offsets(batch: Batch) -> Tensor:
    """What is added to every similarity matrix of a batch, float32 [B, P].

    A column that was drawn m times counts m times, by log m; the positive counts once. Accidental
    hits are MASKED.
    """
    offsets = batch.log_count.repeat(len(batch.trigger), 1)
    offsets.scatter_(1, batch.positive.unsqueeze(1), 0.0)
    offsets[batch.hit_row, batch.hit_column] = MASKED
    return offsets
