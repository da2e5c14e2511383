"""The training loop: one for every objective, on cpu or cuda, resumable to the same model."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mtmh.clock import Progress
from mtmh.data.sampler import Batch
from mtmh.model.catalog import Catalog
from mtmh.training.step import Step

CURVE_EVERY = 50  # steps a point of the training curves averages
CHECKPOINT_EVERY = 500  # steps

T = TypeVar("T")
Loss = Callable[[dict[str, Tensor], Tensor, Batch], tuple[Tensor, dict[str, Tensor]]]


class Sampler(Protocol):
    """What draws the batches: `PairSampler`, or `ClusterSampler`."""

    batch_size: int

    def steps_per_epoch(self) -> int:
        """Batches an epoch."""

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """Batches of epoch `number` (from 0), starting at `first_step`."""


@dataclass
class State:
    """Where training stands; with model and optimizer it is all that a checkpoint holds."""

    step: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def resume(
        cls, checkpoint: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> "State":
        """That of the checkpoint where there is one, loaded with model and optimizer; else anew."""
        if checkpoint is None or not checkpoint.exists():
            return cls()
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = cls(**saved["state"])
        print(f"train: goes on from step {state.step} ({checkpoint.name})", flush=True)
        return state

    def save(self, checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the checkpoint, whole or not at all."""
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = checkpoint.with_suffix(".unfinished")
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**states, "state": vars(self)}, unfinished)
        unfinished.rename(checkpoint)

    def record(self, parts: dict[str, Tensor], batch_size: int, seconds: float, last: bool) -> None:
        """Add a step's losses to the running sums; every CURVE_EVERY steps their means are a point.

        The sums stay on the device: only a point of the curves waits for it.
        """
        for name, part in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + part
        if self.step % CURVE_EVERY == 0 or last:
            steps = (self.step - 1) % CURVE_EVERY + 1
            means = {name: float(total) / steps for name, total in self.sums.items()}
            pairs = self.step * batch_size
            point = {"step": self.step, "pairs": pairs, **means}
            self.curves.append(point | {"pairs_per_second": pairs / seconds})
            self.sums = {}

    def losses(self) -> str:
        """Those of the curves' last point, in a line."""
        point = self.curves[-1] if self.curves else {}
        return "  ".join(
            f"{name} {value:.3f}" for name, value in point.items() if name.endswith("_loss")
        )


def fit(
    model: nn.Module,
    sampler: Sampler,
    catalog: Catalog,
    content: Tensor,
    step: Step,
    loss: Loss,
    epochs: int,
    lr: float,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place with Adagrad and return the training curves, a row every 50 steps.

    Arguments: `content` float32 [items, c] unit rows, the frozen teacher; `step` how a step is
    computed; `loss` takes the heads' vectors of a batch's items, their content and the batch, and
    returns the scalar to minimize and its named parts: `step.objective_loss` with its settings;
    `checkpoint` is a file that is written every 500 steps and, when it exists, continued from.
    Batches depend on the seed and the step alone, so a resumed run ends with the same weights as an
    uninterrupted one.
    """
    torch.sparse.check_sparse_tensor_invariants.disable()  # unset, the sparse optimizer step warns
    model.to(step.device).train()
    ids, floats = catalog.ids.to(step.device), catalog.floats.to(step.device)
    content = content.to(step.device, step.precision)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=lr)
    state = State.resume(checkpoint, model, optimizer)
    last = epochs * sampler.steps_per_epoch()
    progress = Progress("train", (last - state.step) * sampler.batch_size, "pairs")
    started = time.perf_counter() - state.seconds

    # The batches after the steps that a checkpoint has done, with what the
    # model reads of their items.
    epoch, first_step = divmod(state.step, sampler.steps_per_epoch())

    def model_inputs() -> Iterator[tuple[Batch, tuple[Tensor, Tensor], Tensor]]:
        for number in range(epoch, epochs):
            for batch in sampler.epoch(number, first_step if number == epoch else 0):
                batch = to_device(batch, step.device)
                rows = [table.index_select(0, batch.items) for table in (ids, floats, content)]
                yield batch, catalog.drop_ids(rows[0], rows[1], batch.hidden), rows[2]

    # Forward and backward, the optimizer's step, a point of the curves, now and then a checkpoint.
    with step.threads():
        for batch, item_features, teacher in prefetch(model_inputs()):
            total, parts = loss(step.vectors(model, *item_features), teacher, batch)
            total.backward()
            step.update(optimizer)
            state.step += 1
            seconds = time.perf_counter() - started
            state.record(parts, sampler.batch_size, seconds, state.step == last)
            progress.advance(sampler.batch_size, state.losses())
            if checkpoint is not None and state.step % CHECKPOINT_EVERY == 0:
                state.seconds = time.perf_counter() - started
                state.save(checkpoint, model, optimizer)
    return state.curves


def prefetch(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, each made in another thread while the one before it is worked on."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        batch = pool.submit(next, batches, None)
        while (drawn := batch.result()) is not None:
            batch = pool.submit(next, batches, None)
            yield drawn


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; copies overlap with computation on cuda."""
    if device.type == "cpu":
        return batch
    tensors = {f.name: getattr(batch, f.name).pin_memory() for f in fields(batch)}
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    return replace(batch, **moved)


@torch.inference_mode()
def embed(
    model: nn.Module,
    catalog: Catalog,
    device: torch.device,
    rows: int = 65536,
) -> dict[str, Tensor]:
    """Vectors of the whole catalog on the CPU, {head: float32 [items, out_dim], unit rows}."""
    # In blocks of items: what the layers in between take does not grow with the catalog.
    model.to(device).eval()
    chunks = [
        {head: unit.cpu() for head, unit in model(ids.to(device), floats.to(device)).items()}
        for ids, floats in zip(catalog.ids.split(rows), catalog.floats.split(rows), strict=True)
    ]
    return {head: torch.cat([chunk[head] for chunk in chunks]) for head in chunks[0]}
