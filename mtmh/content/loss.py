"""The symmetric contrastive loss between content and concept (paper section 4)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def contrastive_loss(
    content: Tensor, concept: Tensor, shared: Tensor, inverse_tau: Tensor
) -> Tensor:
    """Mean over the batch of (- log p(concept i | item i) - log p(item i | concept i)) / 2.

    p(concept j | item i) = exp(<content_i, concept_j> / tau) / sum over k of exp(<content_i, concept_k> / tau), where k
    runs over the pairs of the batch whose item shares no concept with item i, and i itself; p(item | concept) likewise.

    Arguments: `content` and `concept` float [B, d] unit rows, row i of both is one pair; `shared` bool [B, B],
    symmetric, True where items i and j have a concept in common (the same item twice has): neither is a negative of the
    other; `inverse_tau` a scalar, 1 / tau. Returns a scalar with gradients in all three floats.

    >>> contrastive_loss(torch.eye(2), torch.eye(2), torch.eye(2, dtype=torch.bool), torch.tensor(1.0))
    tensor(0.3133)
    """
    pair = torch.arange(len(content), device=content.device)
    masked = shared.clone().fill_diagonal_(False)
    logits = (inverse_tau * content @ concept.T).masked_fill(masked, -torch.inf)
    return (cross_entropy(logits, pair) + cross_entropy(logits.T, pair)) / 2
