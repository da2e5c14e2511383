"""The heads of a model by name, and what each minimizes.

Apart from the model, so that what only reads their vectors need not load torch (1.5 s).
"""

from collections.abc import Mapping

# The paper's. A model has any others by `train.heads`.
HEADS = ("engagement", "relevance")

LossWeights = Mapping[str, tuple[float, float]]  # head -> weights of L_e and of L_r

# The short forms of `train.objective`, by the heads that they have.
HEADS_OF = {
    "mtmh": ("engagement", "relevance"),
    "stmh": ("engagement", "relevance"),
    "mtsh": ("relevance",),
    "engagement": ("engagement",),
}


def loss_weights(objective: str, w_r: float) -> dict[str, tuple[float, float]]:
    """Weights of L_e and of L_r in what each head of `objective` minimizes (paper, Table 2).

    >>> loss_weights("mtmh", 0.5)
    {'engagement': (1.0, 0.0), 'relevance': (1.0, 0.5)}
    """
    # STMH's relevance head learns from the distillation alone, whatever w_r says.
    relevance = (0.0, 1.0) if objective == "stmh" else (1.0, w_r)
    weights = {"engagement": (1.0, 0.0), "relevance": relevance}
    return {head: weights[head] for head in HEADS_OF[objective]}
