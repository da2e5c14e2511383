"""The layers that heads and towers are made of."""

from collections.abc import Mapping

import numpy as np


def mlp(x: np.ndarray, weights: Mapping[str, np.ndarray], layers: int, name: str = "") -> np.ndarray:
    """An MLP of `layers` (ReLU between) beside a linear map where there is one: mtmh.model.two_heads.Head.

    `x` float32 [n, in]; `weights` holds `name`mlp.0.weight [out, in], `name`mlp.0.bias [out], and so on.
    """
    deep = x
    for layer in range(layers):
        place = f"{name}mlp.{2 * layer}"
        deep = (deep.clip(0) if layer else deep) @ weights[f"{place}.weight"].T + weights[f"{place}.bias"]
    beside = weights.get(f"{name}linear.weight")
    return deep if beside is None else deep + x @ beside.T
