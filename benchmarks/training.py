"""Training speed of two heads, beside plain PyTorch and what the machine could do at most with the
same step.

512 in-batch and 512 uniform negatives, the real loop (mtmh/training/loop.py) on an invented log.
The plain step is `train.kernels: torch`; in float32 it is what a prototype of the paper would be,
and the speed is also given as a multiple of that. The ceiling counts what a step cannot do without:
its matrix products, at the rate of a large square product of the same type, and the rows of the
tables that it reads and writes, at the rate of a copy; both measured in the same run. Beside it
stand the ceiling that also counts the softmaxes' exponentials, at the rate of the loop that has
them on rows that stay in the first cache, the products alone in their own shapes, and the speed at
10^4 to 10^6 items: a step must not cost more for a larger catalog.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit

from benchmarks.result import median_seconds, write
from mtmh.config import TrainSettings
from mtmh.data.pair_source import Pairs
from mtmh.data.sampler import Batch, PairSampler
from mtmh.device import pick_device, pick_precision
from mtmh.kernels.loss_rows import exponentials
from mtmh.kernels.products import product
from mtmh.kernels.threads import n_workers, one_thread_per_op, parallel_map
from mtmh.model.catalog import Catalog
from mtmh.model.two_heads import TwoHeads
from mtmh.ragged import Ragged
from mtmh.training.loop import fit
from mtmh.training.step import pick_step

ITEMS, MORE_ITEMS = 20_000, (10_000, 100_000, 1_000_000)
USERS, HISTORY, STEPS, ROUNDS = 30_000, 10, 100, 5
SETTINGS = TrainSettings()
LOSS = ("tau_p", "tau_q", "logq")


def main() -> None:
    """Measure each type of product that pays on this machine; the default's is the result."""
    device = pick_device("auto", "device")
    default = pick_precision("auto", device)
    types = {
        str(dtype).removeprefix("torch."): dtype
        for dtype in dict.fromkeys((default, torch.float32))
    }
    by_precision = {name: _measure(dtype, device) for name, dtype in types.items()}
    prototype = by_precision["float32"]["plain_pairs_per_second"]
    for figures in by_precision.values():
        figures["times_the_prototype"] = round(figures["pairs_per_second"] / prototype, 2)
    first = next(iter(by_precision.values()))
    # A step touches the rows of its batch alone: more items should cost little.
    growth = {
        items: round(_Training(items, default, device, "auto").median()) for items in MORE_ITEMS
    }
    details = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": next(iter(by_precision)),
        "embedding_dim": SETTINGS.embedding_dim,
        "hidden": SETTINGS.hidden,
        "by_precision": by_precision,
        "pairs_per_second_by_items": growth,
    }
    write("training", first["pairs_per_second"], "pairs/s for two heads", first["ceiling"], details)
    for name, figures in by_precision.items():
        print(f"  {name}: " + ", ".join(f"{key} {value:,}" for key, value in figures.items()))
    print(
        "  pairs/s by items: "
        + ", ".join(f"{items:,}: {speed:,}" for items, speed in growth.items())
    )


def _measure(precision: torch.dtype, device: torch.device) -> dict[str, float]:
    """Speed, that of the plain step, ceiling and what it is made of, for one type of product."""
    fused, plain = (_Training(ITEMS, precision, device, kernels) for kernels in ("auto", "torch"))
    # In turns, so that both meet the same machine.
    speeds = [(fused.speed(), plain.speed()) for _ in range(ROUNDS + 1)][1:]
    fused_speed, plain_speed = (statistics.median(some) for some in zip(*speeds, strict=True))
    batch = next(fused.sampler.epoch(0))
    shapes = _shapes(batch)
    operations = sum(2 * m * k * n for m, k, n in shapes)
    # Weights and Adagrad's sums of the rows, read and written in float32; the teacher's rows, read.
    size = len(batch.items)
    moved = size * SETTINGS.embedding_dim * 4 * 4 + size * 128 * precision.itemsize
    softmaxes = 3 * 512 * len(batch.log_count)  # two students' and the teacher's
    machine = _Machine(device, precision)
    rate, bandwidth = machine.product_rate(), machine.copy_rate()
    least = operations / rate + moved / bandwidth
    exponential_rate = machine.exponential_rate()
    return {
        "pairs_per_second": round(fused_speed),
        "plain_pairs_per_second": round(plain_speed),
        "products_alone": round(512 / machine.products(shapes)),
        "ceiling": round(512 / least),
        "ceiling_with_exponentials": round(512 / (least + softmaxes / exponential_rate)),
        "gigaflop_a_step": round(operations / 1e9, 3),
        "megabytes_a_step": round(moved / 1e6, 2),
        "gigaflop_per_second": round(rate / 1e9, 1),
        "gigabytes_per_second": round(bandwidth / 1e9, 1),
        "megaexponentials_a_step": round(softmaxes / 1e6, 2),
        "gigaexponentials_per_second": round(exponential_rate / 1e9, 2),
    }


class _Training:
    """A model and its data, to be trained again and again."""

    def __init__(
        self, items: int, precision: torch.dtype, device: torch.device, kernels: str
    ) -> None:
        torch.manual_seed(0)
        dims, hidden = [SETTINGS.embedding_dim], SETTINGS.hidden
        model = TwoHeads([items + 1], dims, torch.zeros(3), torch.ones(3), hidden, SETTINGS.out_dim)
        catalog = Catalog(torch.arange(1, items + 1).unsqueeze(1), torch.randn(items, 3), {}, [])
        content = torch.nn.functional.normalize(torch.randn(items, 128), dim=1)
        step = pick_step(kernels, device, precision)
        terms = {name: getattr(SETTINGS, name) for name in LOSS}
        loss = partial(step.objective_loss, weights=SETTINGS.loss_weights(), **terms)
        # Popular items come often, as in a log.
        rng = np.random.default_rng(0)
        law = 1 / np.arange(1, items + 1) ** 0.8
        law /= law.sum()
        user = rng.integers(0, USERS, STEPS * 512).astype(np.int32)
        trigger, candidate = (
            rng.choice(items, STEPS * 512, p=law).astype(np.int32) for _ in range(2)
        )
        self.sampler = PairSampler(
            Pairs(user, trigger, candidate, np.ones(STEPS * 512, dtype=np.float32)),
            history=Ragged(
                np.arange(USERS + 1) * HISTORY,
                rng.choice(items, USERS * HISTORY, p=law).astype(np.int32),
            ),
            n_items=items,
            batch_size=512,
            uniform_negatives=512,
            seed=0,
        )
        self.train = partial(fit, model, self.sampler, catalog, content, step, loss, 1, SETTINGS.lr)

    def speed(self) -> float:
        """Pairs/s of STEPS steps."""
        return self.train()[-1]["pairs_per_second"]

    def median(self) -> float:
        """Pairs/s of the training loop: the median of ROUNDS, after one that does not count."""
        return statistics.median([self.speed() for _ in range(ROUNDS + 1)][1:])


def _shapes(batch: Batch) -> list[tuple[int, int, int]]:
    """(m, k, n) of each product of a step: two heads', each with the two that its gradient needs,
    and the teacher's."""
    n, columns, out = len(batch.items), len(batch.log_count), SETTINGS.out_dim
    model = TwoHeads(
        [2], [SETTINGS.embedding_dim], torch.zeros(3), torch.ones(3), SETTINGS.hidden, out
    )
    layers = [
        tuple(p.shape)
        for name, p in model.named_parameters()
        if name.startswith("heads") and p.dim() == 2
    ]
    forward = [(n, fan_in, fan_out) for fan_out, fan_in in layers] + [(512, out, columns)] * 2
    return [(512, 128, columns)] + [
        shape for m, k, n in forward for shape in ((m, k, n), (m, n, k), (k, m, n))
    ]


@dataclass(frozen=True)
class _Machine:
    """What this machine could do at most with one type of product."""

    device: torch.device
    precision: torch.dtype

    def products(self, shapes: list[tuple[int, int, int]]) -> float:
        """Seconds of a step's products alone: no gather, no softmax, no optimizer."""
        some: Any = partial(torch.randn, device=self.device, dtype=self.precision)
        operands = [(some(m, k), some(k, n)) for m, k, n in shapes]

        def step() -> None:
            for a, b in operands:
                last = product(a, b)
            self.done(last)

        return statistics.median(median_seconds(step, STEPS) for _ in range(ROUNDS))

    def product_rate(self, size: int = 2048) -> float:
        """Operations/s of a large square product."""
        a = torch.randn(size, size, device=self.device, dtype=self.precision)
        return 2 * size**3 / median_seconds(lambda: self.done(product(a, a)), ROUNDS)

    def copy_rate(self, size: int = 1 << 26) -> float:
        """Bytes/s that a copy reads and writes, of memory too large for any cache."""
        a = torch.zeros(size, device=self.device)
        b = torch.empty_like(a)
        return 2 * a.nbytes / median_seconds(lambda: self.done(b.copy_(a)), ROUNDS)

    def exponential_rate(self, size: int = 1024, rows: int = 1000) -> float:
        """Exponentials/s: on the CPU of the loop in the losses, a row of `size` again and again in
        every thread."""
        if self.device.type == "cuda":
            a = torch.zeros(size * rows, device=self.device)
            return a.numel() / median_seconds(lambda: self.done(a.exp()), ROUNDS)
        with one_thread_per_op():
            threads = [
                (np.zeros(size, np.float32), np.ones(size, np.float32), np.empty(size, np.float32))
            ] * n_workers()
            seconds = median_seconds(
                lambda: parallel_map(lambda arrays: _again(rows, *map(np.copy, arrays)), threads),
                ROUNDS,
            )
            return len(threads) * rows * size / seconds

    def done(self, last: torch.Tensor) -> None:
        """Wait for what computes `last`."""
        if last.device.type == "cuda":
            torch.cuda.synchronize()


# As the losses' loop is compiled, of which this becomes a part.
@njit(nogil=True, fastmath=True, error_model="numpy")
def _again(times, logit, rarity, out):  # type: ignore[no-untyped-def]
    total = 0.0
    for _ in range(times):
        total += exponentials(logit, rarity, out)[1]
    return total
