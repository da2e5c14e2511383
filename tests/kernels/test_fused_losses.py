"""The losses' kernels against the plain losses in float64: values, gradients, any heads."""

import gc
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from helpers.small_batch import batch_of_a_pair, some_batch, some_rows, unit
from helpers.some_heads import some_heads
from torch import Tensor

from mtmh.data.sampler import Batch
from mtmh.kernels.fused_losses import fused_objective_loss
from mtmh.kernels.loss_rows import row_losses
from mtmh.kernels.threads import n_workers, one_thread_per_op
from mtmh.model.losses import (
    column_offsets,
    engagement_loss,
    objective_loss,
    relevance_loss,
)

SETTINGS = {"tau_p": 0.13, "tau_q": 0.08}
HEADS = some_heads(w_r=0.7)


@dataclass
class Result:
    """What a loss gives, in float64; gradients of three times the loss, so that what follows it is
    heeded.
    """

    total: Tensor
    parts: dict[str, Tensor]
    gradients: list[Tensor]


def result(
    batch: Batch, heads: str, logq: bool, precision: torch.dtype, plain: bool = False
) -> Result:
    """Of vectors in `precision`, or of float32 ones with products in bfloat16; some triggers have
    no content.
    """
    n, dtype = len(batch.items), torch.float64 if plain else torch.float32
    vectors = {head: unit(n, 8, i, dtype).requires_grad_() for i, head in enumerate(HEADS[heads])}
    content = unit(n, 8, 9, dtype)
    content[batch.trigger[::3]] = 0
    if plain:
        total, parts = objective_loss(vectors, content, batch, HEADS[heads], **SETTINGS, logq=logq)
    else:
        arguments = (vectors, content, batch, HEADS[heads])
        total, parts = fused_objective_loss(*arguments, **SETTINGS, logq=logq, precision=precision)
    gradients = torch.autograd.grad(3 * total, list(vectors.values()))
    return Result(
        total.detach().double(),
        {name: part.double() for name, part in parts.items()},
        [gradient.double() for gradient in gradients],
    )


@pytest.mark.parametrize("logq", [True, False])
@pytest.mark.parametrize("heads", list(HEADS))
def test_losses_and_gradients_are_the_plain_ones(heads: str, logq: bool) -> None:
    batch = some_batch()
    assert batch.log_count.max() > 0
    assert len(batch.hit_row)
    fused = result(batch, heads, logq, torch.float32)
    plain = result(batch, heads, logq, torch.float64, plain=True)
    torch.testing.assert_close(fused.total, plain.total, rtol=1e-6, atol=0)
    assert list(fused.parts) == list(plain.parts)
    torch.testing.assert_close(fused.parts, plain.parts, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fused.gradients, plain.gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logq", [True, False])
def test_a_batch_of_one_pair_is_no_special_case(logq: bool) -> None:
    batch = batch_of_a_pair([math.log(0.01), math.log(0.1)])
    fused = result(batch, "engagement", logq, torch.float32)
    plain = result(batch, "engagement", logq, torch.float64, plain=True)
    torch.testing.assert_close(fused.total, plain.total, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fused.gradients, plain.gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.4)])
@pytest.mark.parametrize(
    "tau", [0.1, 0.005]
)  # the second: most of a row's exponentials are too small for a float32
def test_a_row_at_a_time_gives_what_whole_matrices_give(
    weights: tuple[float, float], tau: float
) -> None:
    batch = some_batch()
    n, p = len(batch.items), len(batch.log_count)
    student, content = unit(n, 5, 0), unit(n, 4, 1)
    content[batch.trigger[0]] = 0
    has_content = content[batch.trigger].any(dim=1)
    similarity = (student[batch.trigger] @ student[:p].T / tau).requires_grad_()
    teacher = content[batch.trigger] @ content[:p].T / tau
    # The plain losses and their gradient in the similarity.
    offsets = column_offsets(batch)
    logits = similarity + offsets
    engagement = engagement_loss(logits - batch.log_q, batch.positive, batch.weight)
    relevance = relevance_loss(logits, teacher + offsets, has_content)
    (gradient,) = torch.autograd.grad(weights[0] * engagement + weights[1] * relevance, similarity)
    losses = [loss.detach() if weight else torch.zeros(()).double()
              for loss, weight in zip((engagement, relevance), weights, strict=True)]  # fmt: skip
    inputs = similarity.detach().float(), teacher.float() if weights[1] else None
    for fused, plain in zip(
        row_losses(*inputs, batch, weights, has_content, True), [*losses, gradient], strict=True
    ):
        torch.testing.assert_close(fused.double(), plain, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_masked_column_gets_no_gradient_at_all(precision: torch.dtype) -> None:
    """Not one too small for the type either: processors are slow with those."""
    batch = some_batch()
    size = len(batch.trigger), len(batch.log_count)
    similarity, teacher = (3 * some_rows(*size, seed).to(precision) for seed in (0, 1))
    has_content = torch.ones(len(batch.trigger), dtype=torch.bool)
    gradient = row_losses(similarity, teacher, batch, (1.0, 0.5), has_content, True)[2]
    masked = torch.zeros(size, dtype=torch.bool)
    masked[batch.hit_row, batch.hit_column] = True
    assert torch.equal(gradient == 0, masked)
    assert gradient[gradient != 0].abs().min() > torch.finfo(precision).smallest_normal


@pytest.mark.parametrize("heads", list(HEADS))
def test_bfloat16_products_give_the_gradient_within_their_rounding(heads: str) -> None:
    rounded, exact = (
        torch.cat(result(some_batch(), heads, True, precision).gradients)
        for precision in (torch.bfloat16, torch.float32)
    )
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.02


def test_distillation_takes_the_uncorrected_logits() -> None:
    batch = some_batch()
    other = replace(batch, log_q=batch.log_q + torch.linspace(-3, 3, len(batch.log_q)))
    content, results = unit(len(batch.items), 4, 2, torch.float32), []
    for drawn in (batch, other):
        vectors = unit(len(batch.items), 5, 1, torch.float32).requires_grad_()
        arguments = ({"relevance": vectors}, content, drawn, HEADS["stmh"])
        total, parts = fused_objective_loss(
            *arguments, **SETTINGS, logq=True, precision=torch.float32
        )
        total.backward()
        results.append((parts["relevance_head_relevance_loss"], vectors.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_loss_leaves_no_garbage() -> None:
    """Nothing holds itself: memory that waits for the collector is fresh memory for the next step,
    page by page.
    """
    gc.collect()
    gc.disable()
    try:
        reference = weakref.ref(result(some_batch(), "mtmh", True, torch.float32).total)
        assert reference() is None
    finally:
        gc.enable()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("heads", list(HEADS))
def test_threads_change_neither_losses_nor_gradients(heads: str, two_threads: None) -> None:
    batch = some_batch()
    alone = result(batch, heads, True, torch.float32)
    with one_thread_per_op():
        assert n_workers() == 2
        together, again = (result(batch, heads, True, torch.float32) for _ in range(2))
    torch.testing.assert_close(together.total, alone.total, rtol=1.3e-6, atol=1e-5)
    torch.testing.assert_close(together.gradients, alone.gradients, rtol=1.3e-6, atol=1e-5)
    assert torch.equal(together.total, again.total)
    assert all(torch.equal(*pair) for pair in zip(together.gradients, again.gradients, strict=True))
