"""Batches small enough to check item by item, and vectors for them."""

import numpy as np
import torch
from torch import Tensor

from mtmh.data.pair_source import Pairs
from mtmh.data.sampler import Batch, PairSampler


def some_batch(seed: int = 0) -> Batch:
    """A batch with repeated columns, accidental hits and unequal weights."""
    rng = np.random.default_rng(seed)
    history = [rng.permutation(15)[:6] for _ in range(8)]
    user = rng.integers(0, 8, 40).astype(np.int32)
    trigger, candidate = np.array([rng.permutation(history[u])[:2] for u in user], np.int32).T
    sampler = PairSampler(
        Pairs(user, trigger, candidate, rng.uniform(0.5, 3, 40).astype(np.float32)),
        history=(np.arange(9) * 6, np.concatenate(history).astype(np.int32)),
        n_items=15,
        batch_size=12,
        uniform_negatives=20,
        seed=seed,
    )
    return next(sampler.epoch(0))


def batch_of_a_pair(log_q: list[float]) -> Batch:
    """One pair and its negatives: column 0 is the positive, the last item the trigger."""
    return Batch(
        items=torch.arange(len(log_q) + 1),
        trigger=torch.tensor([len(log_q)]),
        positive=torch.tensor([0]),
        log_count=torch.zeros(len(log_q)),
        log_q=torch.tensor(log_q),
        hit_row=torch.zeros(0, dtype=torch.int64),
        hit_column=torch.zeros(0, dtype=torch.int64),
        weight=torch.ones(1),
        hidden=torch.zeros(0, dtype=torch.int64),
    )


def unit(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    raw = torch.randn(
        rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return torch.nn.functional.normalize(raw, dim=1).to(dtype)


def some_rows(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
