"""Gradients written out by hand, against autograd; work in threads, against work in turn."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from helpers.small_batch import some_batch, unit
from torch import Tensor, nn

from mtmh.model.losses.objective import HEADS_OF, objective_loss
from mtmh.model.side_by_side import each, lanes, side_by_side
from mtmh.model.two_heads import Head
from mtmh.model.unit_vectors import unit_vectors

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def some_heads(hidden: list[int], dtype: torch.dtype) -> list[Head]:
    torch.manual_seed(0)
    return [Head([7, *hidden, 5]).to(dtype) for _ in range(2)]


@pytest.mark.parametrize("n", [1, 64, 70])
@pytest.mark.parametrize("hidden", [[], [6], [6, 4]])
def test_unit_vectors_and_their_gradients_are_autograds(hidden: list[int], n: int) -> None:
    heads = some_heads(hidden, torch.float64)
    bottom = torch.randn(n, 7, dtype=torch.float64, requires_grad=True)
    leaves = [bottom, *(weight for head in heads for weight in head.parameters())]
    upstream = [torch.randn(n, 5, dtype=torch.float64) for _ in heads]
    exact = [nn.functional.normalize(head(bottom), dim=1) for head in heads]
    found = unit_vectors(bottom, [head.weights() for head in heads], torch.float64)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad(units, leaves, upstream) for units in (found, exact)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("hidden", [[], [6], [6, 4]])
def test_a_row_at_a_time_they_are_what_whole_matrices_give(hidden: list[int]) -> None:
    """Float32 goes a row at a time, float64 by whole matrices."""
    found = []
    for dtype in (torch.float32, torch.float64):
        heads = some_heads(hidden, torch.float32)
        leaves = [torch.randn(70, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()]
        leaves += [weight for head in heads for weight in head.parameters()]
        units = unit_vectors(leaves[0].to(dtype), [[one.to(dtype) for one in head.weights()] for head in heads], dtype)
        upstream = [torch.randn(70, 5, generator=torch.Generator().manual_seed(i)).to(dtype) for i in range(2)]
        found.append([*units, *torch.autograd.grad(units, leaves, upstream)])
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)


def test_a_step_leaves_no_garbage() -> None:
    """Nothing holds itself: memory that waits for the collector is fresh memory for the next step, page by page."""
    gc.collect()
    gc.disable()
    try:
        for_good = weakref.ref(one_step("mtmh").total)
        bottom = torch.randn(70, 7, requires_grad=True)
        units = unit_vectors(bottom, [head.weights() for head in some_heads([6], torch.float32)], torch.float32)
        kept = weakref.ref(units[0])
        units[0].sum().backward()
        del units
        assert kept() is None
        assert for_good() is None
    finally:
        gc.enable()


def test_in_bfloat16_they_are_within_its_rounding() -> None:
    heads = some_heads([6], torch.float32)
    bottom = torch.randn(70, 7, requires_grad=True)
    slopes = {}
    for precision in (torch.float32, torch.bfloat16):
        units = unit_vectors(bottom, [head.weights() for head in heads], precision)
        assert all(one.dtype == torch.float32 for one in units)
        torch.testing.assert_close(units[0].norm(dim=1), torch.ones(70))
        leaves = [bottom, *heads[0].parameters()]
        slopes[precision] = torch.cat([one.flatten() for one in torch.autograd.grad(units[0][:, 0].sum(), leaves)])
    error = (slopes[torch.bfloat16] - slopes[torch.float32]).norm() / slopes[torch.float32].norm()
    assert 0 < float(error) < 0.02


def test_a_zero_vector_stays_one_and_its_gradient_is_finite() -> None:
    head = Head([3, 2])
    nn.init.zeros_(head.mlp[0].bias)
    bottom = torch.zeros(2, 3, requires_grad=True)
    (units,) = unit_vectors(bottom, [head.weights()], torch.float32)
    units.sum().backward()
    assert not units.any()
    assert bottom.grad is not None
    assert torch.isfinite(bottom.grad).all()


@dataclass
class Step:
    total: Tensor
    gradients: list[Tensor]


def one_step(objective: str) -> Step:
    batch = some_batch()
    vectors = {head: unit(len(batch.items), 5, i, torch.float32).requires_grad_()
               for i, head in enumerate(HEADS_OF[objective])}  # fmt: skip
    content = unit(len(batch.items), 4, 9, torch.float32)
    total, _ = objective_loss(vectors, content, batch, objective, 0.1, 0.1, 0.5, True)
    return Step(total, list(torch.autograd.grad(total, list(vectors.values()))))


@pytest.mark.parametrize("objective", list(HEADS_OF))
def test_threads_change_neither_losses_nor_gradients(objective: str, two_threads: None) -> None:
    alone = one_step(objective)
    with side_by_side(CPU):
        assert lanes() == 2
        together, again = one_step(objective), one_step(objective)
    assert lanes() == 1
    assert torch.get_num_threads() == 2
    torch.testing.assert_close(together.total, alone.total)
    torch.testing.assert_close(together.gradients, alone.gradients)
    assert torch.equal(together.total, again.total)
    assert all(torch.equal(one, other) for one, other in zip(together.gradients, again.gradients, strict=True))


def test_each_keeps_the_order_and_hands_on_what_went_wrong(two_threads: None) -> None:
    with side_by_side(CPU):
        assert each(lambda x: x * x, range(9)) == [x * x for x in range(9)]
        with pytest.raises(ZeroDivisionError):
            each(lambda x: 1 // x, [1, 0])
