"""The one kind of layer stack that heads and towers have."""

from torch import Tensor
from torch.nn.functional import linear, relu


def mlp(x: Tensor, weights: dict[str, Tensor], layers: int, name: str = "") -> Tensor:
    """An MLP of `layers` (ReLU between) beside a linear map where there is one: mtmh.model.two_heads.Head."""
    deep = x
    for layer in range(layers):
        place = f"{name}mlp.{2 * layer}"
        deep = linear(deep if layer == 0 else relu(deep), weights[f"{place}.weight"], weights[f"{place}.bias"])
    beside = weights.get(f"{name}linear.weight")
    return deep if beside is None else deep + linear(x, beside)
