"""The matrix products of a step, by the library that is quicker at them."""

import torch
from torch import Tensor

HAS_ONEDNN = torch.backends.mkldnn.is_available()


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b [m, n] of float32 or bfloat16 [m, k] and [k, n], of any strides, without a graph.

    PyTorch gives float32 to MKL, which keeps to AVX2 on an AMD processor; oneDNN, to which PyTorch
    gives bfloat16, takes the widest instructions that there are. Its linear layer is the same
    product.
    """
    if HAS_ONEDNN and a.device.type == "cpu" and a.dtype == torch.float32:
        linear: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
        return linear
    return a @ b
