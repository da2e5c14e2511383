"""The heads' kernels against the plain model in float64, forward and backward."""

import gc
import weakref

import pytest
import torch
from helpers.small_batch import some_rows
from torch import Tensor, nn
from torch.nn.functional import normalize

from mtmh.kernels.fused_heads import fused_vectors, unit_vectors
from mtmh.model.two_heads import Head, TwoHeads


def some_heads(hidden: list[int], dtype: torch.dtype = torch.float32) -> list[Head]:
    torch.manual_seed(0)
    return [Head([7, *hidden, 5]).to(dtype) for _ in range(2)]


def weights_of(heads: list[Head]) -> list[list[Tensor]]:
    return [list(head.parameters()) for head in heads]


@pytest.mark.parametrize("n", [1, 64, 70])
@pytest.mark.parametrize("hidden", [[], [6], [6, 4]])
def test_unit_vectors_and_their_gradients_are_the_plain_models(hidden: list[int], n: int) -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        heads = some_heads(hidden, dtype)
        bottom = some_rows(n, 7, 1).to(dtype).requires_grad_()
        if dtype == torch.float32:
            units = unit_vectors(bottom, weights_of(heads), dtype)
        else:
            units = tuple(normalize(head(bottom), dim=1) for head in heads)
        leaves = [bottom, *(weight for head in heads for weight in head.parameters())]
        upstream = [some_rows(n, 5, i).to(dtype) for i in range(2)]
        results.append([*units, *torch.autograd.grad(units, leaves, upstream)])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused.double(), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [("engagement", "relevance"), ("relevance",)])
@pytest.mark.parametrize("floats", [0, 2])
def test_the_vectors_of_a_model_are_those_of_its_forward(
    floats: int, heads: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    model = TwoHeads([16, 4], [6, 3], torch.zeros(floats), torch.ones(floats), [8], 5, heads)
    inputs = torch.randint(0, 4, (7, 2)), torch.randn(7, floats)
    fused, plain = fused_vectors(model, *inputs, torch.float32), model(*inputs)
    assert list(fused) == list(plain) == list(heads)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


def test_unit_vectors_leave_no_garbage() -> None:
    """Nothing holds itself: memory that waits for the collector is fresh memory for the next step,
    page by page.
    """
    gc.collect()
    gc.disable()
    try:
        bottom = torch.randn(70, 7, requires_grad=True)
        units = unit_vectors(bottom, weights_of(some_heads([6])), torch.float32)
        reference = weakref.ref(units[0])
        units[0].sum().backward()
        del units
        assert reference() is None
    finally:
        gc.enable()


def test_in_bfloat16_they_are_within_its_rounding() -> None:
    heads = some_heads([6])
    bottom = torch.randn(70, 7, requires_grad=True)
    gradients = {}
    for precision in (torch.float32, torch.bfloat16):
        units = unit_vectors(bottom, weights_of(heads), precision)
        assert all(unit.dtype == torch.float32 for unit in units)
        torch.testing.assert_close(units[0].norm(dim=1), torch.ones(70))
        leaves = [bottom, *heads[0].parameters()]
        flat = [
            gradient.flatten() for gradient in torch.autograd.grad(units[0][:, 0].sum(), leaves)
        ]
        gradients[precision] = torch.cat(flat)
    error = (gradients[torch.bfloat16] - gradients[torch.float32]).norm() / gradients[
        torch.float32
    ].norm()
    assert 0 < float(error) < 0.02


def test_a_zero_vector_stays_one_and_its_gradient_is_finite() -> None:
    head = Head([3, 2])
    nn.init.zeros_(head.mlp[0].bias)
    bottom = torch.zeros(2, 3, requires_grad=True)
    (units,) = unit_vectors(bottom, weights_of([head]), torch.float32)
    units.sum().backward()
    assert not units.any()
    assert bottom.grad is not None
    assert torch.isfinite(bottom.grad).all()
