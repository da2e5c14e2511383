"""Products of matrices and of their views, against those in float64."""

import pytest
import torch
from helpers.small_batch import some_rows

from mtmh.kernels.products import HAS_ONEDNN, product


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_views_are_those_of_the_matrices(dtype: torch.dtype) -> None:
    a, b = some_rows(70, 40, 0).to(dtype), some_rows(70, 24, 1).to(dtype)
    views = [
        (a.T, b),
        (a[:, 16:].T, b),
        (a[:, :24], b.T),
        (a[3:, 8:32], b.T[:, :9]),
        (a[:1], a[:1].T),
    ]
    for left, right in views:
        exact = left.double() @ right.double()
        accuracy = (
            {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.01, "atol": 0.1}
        )
        result = product(left, right)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), exact, **accuracy)


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch was built without oneDNN")
def test_a_float32_product_keeps_its_precision() -> None:
    """No shorter type within: the relative error of a sum of a thousand products stays at
    float32's.
    """
    a, b = some_rows(64, 1024, 0), some_rows(1024, 64, 1)
    exact = a.double() @ b.double()
    assert float((product(a, b) - exact).norm() / exact.norm()) < 1e-6
