"""A training step, fused and plain: what each loss may touch, and that both give the same model."""

from collections.abc import Iterable

import pytest
import torch
from helpers.small_batch import some_batch, unit
from helpers.some_heads import THREE_HEADS
from torch import Tensor

from mtmh.heads import HEADS_OF, LossWeights, loss_weights
from mtmh.kernels.adagrad import fused_update
from mtmh.model.two_heads import TwoHeads
from mtmh.training.step import pick_step

CPU = torch.device("cpu")
KERNELS = ["auto", "torch"]
BATCH = some_batch()
IDS = torch.stack([BATCH.items + 1, BATCH.items % 4], dim=1)


def weights_of(objective: str, w_r: float = 0.5) -> LossWeights:
    """The heads of an objective, or of the list that no objective has."""
    return THREE_HEADS if objective == "three heads" else loss_weights(objective, w_r)


def make_model(heads: Iterable[str]) -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads([16, 4], [6, 3], torch.zeros(2), torch.ones(2), [8], 5, tuple(heads))


def loss_of(
    model: TwoHeads,
    kernels: str,
    objective: str,
    w_r: float,
    only: str = "",
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """The scalar to minimize, of all heads or of one."""
    step = pick_step(kernels, CPU, precision)
    floats = torch.randn(len(IDS), 2, generator=torch.Generator().manual_seed(1))
    content = unit(len(IDS), 4, 3, torch.float32).to(precision)
    vectors = {
        head: units
        for head, units in step.vectors(model, IDS, floats).items()
        if only in ("", head)
    }
    return step.objective_loss(
        vectors, content, BATCH, weights_of(objective, w_r), tau_p=0.1, tau_q=0.1, logq=True
    )[0]


def gradients(
    kernels: str, objective: str, w_r: float, precision: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Gradient of every weight, dense, after one batch."""
    model = make_model(weights_of(objective))
    loss_of(model, kernels, objective, w_r, precision=precision).backward()
    return {
        name: weight.grad.to_dense()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def stepped(kernels: str, objective: str) -> dict[str, Tensor]:
    """The weights after three steps. The sums of squares begin above 0: a first step of Adagrad is
    the sign of each gradient, and that of a rounding error is chance.
    """
    torch.sparse.check_sparse_tensor_invariants.disable()  # as the training loop does
    model = make_model(weights_of(objective))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1, initial_accumulator_value=0.01)
    step = pick_step(kernels, CPU, torch.float32)
    with step.threads():
        for _ in range(3):
            loss_of(model, kernels, objective, 0.5).backward()
            step.update(optimizer)
            assert all(weight.grad is None for weight in model.parameters())
    return {name: weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("objective", [*HEADS_OF, "three heads"])
def test_fused_and_plain_steps_give_the_same_weights(objective: str) -> None:
    fused, plain = stepped("auto", objective), stepped("torch", objective)
    start = dict(make_model(weights_of(objective)).named_parameters())
    for name, weight in plain.items():
        torch.testing.assert_close(fused[name], weight, rtol=1e-4, atol=1e-5)
        assert not torch.equal(start[name], weight)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("objective", [*HEADS_OF, "three heads"])
def test_bfloat16_gives_the_gradients_within_its_rounding(objective: str, kernels: str) -> None:
    exact, rounded = (
        gradients(kernels, objective, 0.5, precision)
        for precision in (torch.float32, torch.bfloat16)
    )
    assert all(gradient.dtype == torch.float32 for gradient in rounded.values())
    flat = [
        torch.cat([gradient.flatten() for gradient in some.values()]) for some in (rounded, exact)
    ]
    assert 0 < float((flat[0] - flat[1]).norm() / flat[1].norm()) < 0.03


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_relevance_loss_reaches_the_bottom_and_its_own_head_alone(kernels: str) -> None:
    plain, distilled = gradients(kernels, "mtmh", 0.0), gradients(kernels, "mtmh", 2.0)
    assert set(plain) == {name for name, _ in make_model(HEADS_OF["mtmh"]).named_parameters()}
    for name in plain:
        assert torch.equal(plain[name], distilled[name]) is name.startswith("heads.engagement"), (
            name
        )


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_bottom_gets_the_sum_of_both_heads_gradients(kernels: str) -> None:
    """One backward pass: the bottom's gradient of STMH is that of L_e through one head and L_r
    through the other.
    """
    both = gradients(kernels, "stmh", 0.0)
    model = make_model(HEADS_OF["stmh"])
    for head in HEADS_OF["stmh"]:
        loss_of(model, kernels, "stmh", 0.0, only=head).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad.to_dense(), both[name], rtol=1e-4, atol=1e-7)


def test_auto_fuses_on_a_cpu_in_the_types_that_kernels_have() -> None:
    for precision in (torch.float32, torch.bfloat16):
        assert pick_step("auto", CPU, precision).update is fused_update
        assert pick_step("torch", CPU, precision).update is not fused_update
    assert pick_step("auto", CPU, torch.float64).update is not fused_update
