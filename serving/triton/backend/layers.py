"""The layers that heads and towers are made of, over numpy arrays and torch tensors alike."""

from collections.abc import Mapping
from typing import Any


def mlp(x: Any, weights: Mapping[str, Any], layers: int, name: str = "") -> Any:
    """An MLP of `layers` (ReLU between) beside a linear map where there is one: mtmh.model.two_heads.Head.

    `x` float32 [n, in]; `weights` holds `name`mlp.0.weight [out, in], `name`mlp.0.bias [out], and so on.
    """
    deep = x
    for layer in range(layers):
        place = f"{name}mlp.{2 * layer}"
        deep = (deep.clip(0) if layer else deep) @ weights[f"{place}.weight"].T + weights[f"{place}.bias"]
    beside = weights.get(f"{name}linear.weight")
    return deep if beside is None else deep + x @ beside.T
