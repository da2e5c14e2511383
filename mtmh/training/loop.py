"""The training loop: one for every objective, on cpu or cuda, resumable to the same model."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mtmh.clock import Progress
from mtmh.data.sampler import Batch, PairSampler
from mtmh.model.catalog import Catalog
from mtmh.model.side_by_side import side_by_side
from mtmh.model.two_heads import TwoHeads
from mtmh.training.adagrad import adagrad, step

CURVE_EVERY = 50  # steps a point of the training curves averages
CHECKPOINT_EVERY = 500  # steps

T = TypeVar("T")
Loss = Callable[[dict[str, Tensor], Tensor, Batch], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class State:
    """Where training stands; with model and optimizer it is all that a checkpoint holds."""

    step: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def fit(
    model: TwoHeads,
    sampler: PairSampler,
    catalog: Catalog,
    content: Tensor,
    loss: Loss,
    epochs: int,
    lr: float,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place with Adagrad and return the training curves, a row every 50 steps.

    Arguments: `content` float32 [items, c] unit rows, the frozen teacher; `loss` takes the heads' vectors of a batch's
    items, their content and the batch, and returns the scalar to minimize and its named parts; `precision` of the
    heads' products and of the teacher (weights, sums and normalization stay in float32); `checkpoint` is a file
    that is written every 500 steps and, when it is there, continued from. Batches depend on the seed and the step
    alone, so a resumed run ends with the same weights as an uninterrupted one.
    """
    torch.sparse.check_sparse_tensor_invariants.disable()  # said aloud, or the sparse optimizer step warns
    model.to(device).train()
    ids, floats, content = catalog.ids.to(device), catalog.floats.to(device), content.to(device, precision)
    optimizer = adagrad(model, lr)
    state = _resume(checkpoint, model, optimizer)
    per_epoch = sampler.steps_per_epoch()
    progress = Progress("train", (epochs * per_epoch - state.step) * sampler.batch_size, "pairs")
    started = time.perf_counter() - state.seconds
    done, first = divmod(state.step, per_epoch)
    batches = (one for epoch in range(done, epochs) for one in sampler.epoch(epoch, first if epoch == done else 0))

    def with_inputs() -> Iterator[tuple[Batch, tuple[Tensor, Tensor], Tensor]]:
        for batch in batches:
            batch = to_device(batch, device)
            of_items = [one.index_select(0, batch.items) for one in (ids, floats, content)]
            yield batch, catalog.hide(of_items[0], of_items[1], batch.hidden), of_items[2]

    with side_by_side(device):
        for batch, shown, taught in ahead(with_inputs()):
            total, parts = loss(model(*shown, precision), taught, batch)
            total.backward()
            step(optimizer)
            state.step += 1
            _record(state, parts, sampler.batch_size, time.perf_counter() - started, state.step == epochs * per_epoch)
            progress.advance(sampler.batch_size, _last(state))
            if checkpoint is not None and state.step % CHECKPOINT_EVERY == 0:
                state.seconds = time.perf_counter() - started
                _save(checkpoint, model, optimizer, state)
    return state.curves


def ahead(batches: Iterator[T]) -> Iterator[T]:
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
    moved = {f.name: getattr(batch, f.name).pin_memory().to(device, non_blocking=True) for f in fields(batch)}
    return replace(batch, **moved)


@torch.inference_mode()
def embed(model: TwoHeads, catalog: Catalog, device: torch.device, rows: int = 65536) -> dict[str, Tensor]:
    """Vectors of the whole catalog on the CPU, {head: float32 [items, out_dim], unit rows}."""
    model.to(device).eval()
    chunks = [
        {head: unit.cpu() for head, unit in model(ids.to(device), floats.to(device)).items()}
        for ids, floats in zip(catalog.ids.split(rows), catalog.floats.split(rows), strict=True)
    ]
    return {head: torch.cat([chunk[head] for chunk in chunks]) for head in chunks[0]}


def _record(state: State, parts: dict[str, Tensor], batch_size: int, seconds: float, last: bool) -> None:
    """Add to the running sums, which stay on the device: only a point of the curves waits for it."""
    for name, part in parts.items():
        state.sums[name] = state.sums.get(name, 0.0) + part
    if state.step % CURVE_EVERY == 0 or last:
        steps = (state.step - 1) % CURVE_EVERY + 1
        means = {name: float(total) / steps for name, total in state.sums.items()}
        pairs = state.step * batch_size
        state.curves.append({"step": state.step, "pairs": pairs, **means, "pairs_per_second": pairs / seconds})
        state.sums = {}


def _last(state: State) -> str:
    if not state.curves:
        return ""
    shown = {k: v for k, v in state.curves[-1].items() if k not in ("step", "pairs", "pairs_per_second")}
    return "  ".join(f"{name} {value:.3f}" for name, value in shown.items())


def _save(checkpoint: Path, model: TwoHeads, optimizer: torch.optim.Optimizer, state: State) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".unfinished")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}, unfinished)
    unfinished.rename(checkpoint)


def _resume(checkpoint: Path | None, model: TwoHeads, optimizer: torch.optim.Optimizer) -> State:
    if checkpoint is None or not checkpoint.exists():
        return State()
    saved: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    state = State(**saved["state"])
    print(f"train: goes on from step {state.step} ({checkpoint.name})", flush=True)
    return state
