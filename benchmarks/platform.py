"""Simulated users served a second by the retriever in this process, beside the platform alone with
lists of chance."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.result import write
from mtmh.ragged import Ragged
from simulation.counter_rng import uniform
from simulation.platform import Totals
from simulation.population import Population
from simulation.run import SimulationPlan, run_simulation
from simulation.server import Slates

Run = Annotated[Path, typer.Option(help="A run over the synthetic world.")]
SIZES = ((1500, 14), (10_000, 3))  # users, days: the first is what make monitor simulates
STRIDE = 7919  # a prime: items that far apart are all different


def main(run: Run = Path("runs/latest")) -> None:
    """Simulated users served a second by the retriever of a run, beside lists of chance."""
    _live(run, SimulationPlan(days=1, users=50))  # Numba compiles, the backbone is read
    rows = []
    for users, days in SIZES:
        plan = SimulationPlan(days=days, users=users)
        # With lists of chance, what is left is the time of the platform itself.
        served, alone = _live(run, plan), _live(run, plan, by_chance=True)
        rows.append(
            {
                "users": users,
                "days": days,
                "seconds": round(served.seconds, 1),
                "visits": served.visits,
                "exposures": served.exposures,
                "served_per_s": round(served.visits / served.seconds),
                "platform_alone_per_s": round(alone.visits / alone.seconds),
            }
        )
    for row in rows:
        print("  " + ", ".join(f"{name} {value:,.5g}" for name, value in row.items()))
    details: dict[str, Any] = {
        "baseline": "the platform alone, with lists of chance, users/s",
        "sizes": rows,
    }
    # The result is the first size, the one that `make monitor` simulates.
    write("platform", rows[0]["served_per_s"], "users/s", rows[0]["platform_alone_per_s"], details)


def _live(run: Path, plan: SimulationPlan, by_chance: bool = False) -> Totals:
    with tempfile.TemporaryDirectory(prefix="mtmh-platform-") as folder:
        return run_simulation(run, plan, Path(folder) / "place", _ByChance if by_chance else None)


class _ByChance:
    """Any items in any order: no retrieval at all."""

    def __init__(self, people: Population, arms: object) -> None:
        self.people, self.items = people, 1

    def refresh(self, items: int) -> None:
        self.items = items

    def answer(self, users: np.ndarray, triggers: Ragged, arms: np.ndarray, k: int) -> Slates:
        start = uniform(0, "chance", users, len(triggers.values)) * self.items
        item = ((start.astype(int)[:, None] + STRIDE * np.arange(k)) % self.items).astype(np.int32)
        rank = np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), item.shape)
        head, score = np.zeros(item.shape, np.int8), np.zeros(item.shape, np.float32)
        version = np.full(len(users), "chance")
        return Slates(
            item, head, rank, score, np.zeros_like(item), np.zeros(len(users), bool), version
        )
