"""Training speed for two heads beside the matrix products that a step cannot do without, on the same machine.

512 in-batch and 512 uniform negatives, 20,000 items. The baseline runs the step's matrix products alone, in their
shapes, forward and backward, and nothing else: no gather, no softmax, no optimizer.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.result import median_seconds, write
from mtmh.config import TrainSettings
from mtmh.data.sampler import Batch, PairSampler
from mtmh.model.losses.objective import objective_loss
from mtmh.model.two_heads import TwoHeads

ITEMS, USERS, PAIRS, HISTORY, STEPS, ROUNDS = 20_000, 30_000, 200_000, 10, 40, 5


def main() -> None:
    """Time `STEPS` steps and the products of as many, in turn, and compare the medians."""
    settings = TrainSettings()
    rng = np.random.default_rng(0)
    law = 1 / np.arange(1, ITEMS + 1) ** 0.8
    law /= law.sum()
    sampler = PairSampler(
        user=rng.integers(0, USERS, PAIRS).astype(np.int32),
        trigger=rng.choice(ITEMS, PAIRS, p=law).astype(np.int32),
        candidate=rng.choice(ITEMS, PAIRS, p=law).astype(np.int32),
        weight=np.ones(PAIRS, dtype=np.float32),
        history=(np.arange(USERS + 1) * HISTORY, rng.choice(ITEMS, USERS * HISTORY, p=law).astype(np.int32)),
        n_items=ITEMS,
        batch_size=512,
        uniform_negatives=512,
        seed=0,
    )
    torch.manual_seed(0)
    model = TwoHeads(
        [ITEMS + 1], [settings.embedding_dim], torch.zeros(3), torch.ones(3), settings.hidden, settings.out_dim
    )
    ids, floats = torch.arange(1, ITEMS + 1).unsqueeze(1), torch.randn(ITEMS, 3)
    content = torch.nn.functional.normalize(torch.randn(ITEMS, 128), dim=1)
    batches = _forever(sampler)
    shape = next(batches)
    train = partial(_steps, model, batches, ids, floats, content, settings)
    products = partial(_products, len(shape.items), len(shape.columns), model, settings)
    speeds = [STEPS * 512 / median_seconds(work, ROUNDS) for work in (train, products)]
    write(
        "training",
        speeds[0],
        "pairs/s for two heads",
        speeds[1],
        {
            "baseline": "the step's matrix products alone (float32)",
            "threads": torch.get_num_threads(),
            "items_per_step": len(shape.items),
            "columns": len(shape.columns),
            "embedding_dim": settings.embedding_dim,
            "hidden": settings.hidden,
        },
    )


def _forever(sampler: PairSampler) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from sampler.epoch(epoch)
        epoch += 1


def _steps(
    model: TwoHeads,
    batches: Iterator[Batch],
    ids: torch.Tensor,
    floats: torch.Tensor,
    content: torch.Tensor,
    settings: TrainSettings,
) -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=settings.lr)
    chosen = {name: getattr(settings, name) for name in ("objective", "tau_p", "tau_q", "w_r", "logq")}
    for _ in range(STEPS):
        batch = next(batches)
        total, _parts = objective_loss(
            model(ids[batch.items], floats[batch.items]), content[batch.items], batch, **chosen
        )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()


def _products(items: int, columns: int, model: TwoHeads, settings: TrainSettings) -> None:
    """Each product (m x k) (k x n) with the two that its backward pass needs; the teacher's has none."""
    out = settings.out_dim
    layers = [tuple(p.shape) for name, p in model.named_parameters() if name.startswith("heads") and p.dim() == 2]
    shapes = [(items, fan_in, fan_out) for fan_out, fan_in in layers] + [(512, out, columns)] * 2
    operands = [(torch.randn(m, k), torch.randn(k, n), torch.randn(m, n)) for m, k, n in shapes]
    trigger, candidate = torch.randn(512, out), torch.randn(columns, out)
    for _ in range(STEPS):
        for a, b, gradient in operands:
            a @ b
            gradient @ b.T
            a.T @ gradient
        trigger @ candidate.T
