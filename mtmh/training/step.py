"""How a training step is computed: plain PyTorch anywhere, or the fused kernels
that are faster on a CPU.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtmh.kernels.adagrad import fused_update
from mtmh.kernels.fused_heads import fused_vectors
from mtmh.kernels.fused_losses import fused_objective_loss
from mtmh.kernels.threads import one_thread_per_op
from mtmh.model.losses import objective_loss


@dataclass(frozen=True)
class Step:
    """The parts of a step, and the type of its matrix products; sums and weights are float32's."""

    device: torch.device
    precision: torch.dtype
    # (model, ids, floats), as `TwoHeads.forward`.
    vectors: Callable[[Any, Tensor, Tensor], dict[str, Tensor]]
    # As that of mtmh/model/losses.py.
    objective_loss: Callable[..., tuple[Tensor, dict[str, Tensor]]]
    # The weights; their gradients are gone afterwards.
    update: Callable[[torch.optim.Adagrad], None]
    threads: Callable[[], AbstractContextManager[None]]  # what steps run within


def pick_step(kernels: str, device: torch.device, precision: torch.dtype) -> Step:
    """The fused step for kernels "auto" on a CPU in float32 or bfloat16; the
    plain one for everything else.
    """
    fused_types = (torch.float32, torch.bfloat16)
    if kernels == "auto" and device.type == "cpu" and precision in fused_types:
        vectors = partial(fused_vectors, precision=precision)
        loss = partial(fused_objective_loss, precision=precision)
        return Step(device, precision, vectors, loss, fused_update, one_thread_per_op)
    # Without bfloat16, products are of the weights' own type.
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)
    plain_vectors = autocast(lambda model, ids, floats: model(ids, floats))

    def update(optimizer: torch.optim.Adagrad) -> None:
        optimizer.step()
        optimizer.zero_grad()

    return Step(device, precision, plain_vectors, autocast(objective_loss), update, nullcontext)
