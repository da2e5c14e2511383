"""Lists of heads with their loss weights: the four short forms, and one that no short form has."""

from mtmh.heads import HEADS_OF, loss_weights

THREE_HEADS = {"engagement": (1.0, 0.0), "relevance": (1.0, 0.7), "subject": (0.25, 2.0)}


def some_heads(w_r: float) -> dict[str, dict[str, tuple[float, float]]]:
    """Name of the list -> its heads, each with its weights of L_e and of L_r."""
    return {name: loss_weights(name, w_r) for name in HEADS_OF} | {"three heads": THREE_HEADS}
