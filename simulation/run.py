"""The simulated platform over a run: its world, its retriever, arms, days; what `mtmh simulate`
does."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtmh.config import Config, load_config
from mtmh.data.prepare import SYNTHETIC, fingerprint
from mtmh.errors import UserError
from mtmh.experiment.arms import Arm, read_arms
from mtmh.retrieval import query
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import add_items
from mtmh.retrieval.version import verify
from simulation.behaviour import behaviour
from simulation.local_server import LocalServer
from simulation.platform import Totals, simulate, write_experiment
from simulation.population import Population, populate
from simulation.server import Server

PRESETS = {"engagement-only": 100.0, "mtmh": 50.0}  # percent from the engagement head
MakeServer = Callable[[Population, Sequence[Arm]], Server]


@dataclass(frozen=True)
class SimulationPlan:
    """What is simulated; `users` None stands for the world's own."""

    days: int = 14
    arms: str = "engagement-only,mtmh"
    users: int | None = None
    world: str = "default"
    seed: int = 0
    refresh_hours: int = 24

    @property
    def salt(self) -> str:
        """Of the experiment: a router that serves a simulation must have it, too."""
        return f"simulated-{self.seed}"


def run_simulation(
    run: Path,
    plan: SimulationPlan,
    out: Path,
    make_server: MakeServer | None = None,
    after_day: Callable[[Totals], None] = lambda progress: None,
) -> Totals:
    """Simulate, and write the experiment folder `out` when all of it is done, in the place of an
    older simulation.

    `run` is a run over the synthetic world; `make_server` serves in its stead (default: its
    retriever, in this process). Raises UserError when `run` is of other data, or `out` is something
    else.
    """
    config, arms = read_world(run), read_simulated_arms(plan.arms)
    _check_out(out)
    world, population_behaviour = config.data.synthetic, behaviour(plan.world)
    people = populate(
        world, config.seed, plan.users or world.users, plan.days, population_behaviour, plan.seed
    )
    # All is written beside `out`, so that a simulation that was killed leaves no half of a folder.
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="mtmh-texts-") as texts:
        server = (make_server or in_process(run, config, Path(texts)))(people, arms)
        progress = simulate(
            people,
            population_behaviour,
            server,
            arms,
            plan.salt,
            plan.seed,
            draft,
            plan.refresh_hours,
            after_day,
        )
    provenance = {
        "world": plan.world,
        "seed": plan.seed,
        "retriever": str((run / "retriever").resolve()),
        "run": str(run.resolve()),
    }
    write_experiment(draft, people, arms, plan.salt, provenance)
    if out.exists():
        shutil.rmtree(out)
    draft.rename(out)
    return progress


def in_process(run: Path, config: Config, texts: Path) -> MakeServer:
    """The run's retriever as the server; new items enter it by mtmh.retrieval.refresh.add_items.

    Their texts are encoded here, all at once, and kept in the folder `texts`.
    """

    def make(people: Population, arms: Sequence[Arm]) -> Server:
        intake = Intake.load(run, cache=texts)
        intake.encode(intake.check(people.item_table.slice(config.data.synthetic.items)))
        add_new = partial(add_items, intake=intake)
        return LocalServer(query.load(run), config.retrieval, people.item_table, arms, add_new)

    return make


def read_world(run: Path) -> Config:
    """The configuration of a run over the synthetic world. Raises UserError when `run` is none."""
    if not (run / "config.yaml").is_file() or not (run / "retriever").is_dir():
        raise UserError(
            f"{run}: no run. Give one over the synthetic world, such as runs/latest (make run)."
        )
    config, made_from = load_config(run / "config.yaml"), verify(run / "retriever")["created_from"]
    # Users and items are drawn again from the settings: that works for this world alone.
    if made_from["path"] != SYNTHETIC:
        raise UserError(
            f"{run} is of {made_from['path']}:"
            " users are simulated on the synthetic world alone (make run)."
        )
    # Drawn by another law, the same ids would stand for other users and items.
    if made_from["fingerprint"] != fingerprint(SYNTHETIC, config.data, config.seed):
        raise UserError(
            f"{run} is of another law of the synthetic world than this version's: make a new run."
        )
    return config


def read_simulated_arms(text: str) -> tuple[Arm, ...]:
    """Arms as the command line names them, the control first: presets, or NAME:ALPHA.

    Raises UserError when there are fewer than two, or one has no alpha.
    """
    arms: list[dict[str, str | float]] = []
    for part in text.split(","):
        name, _, written_alpha = part.strip().partition(":")
        # A name alone is a preset's.
        if not written_alpha and name not in PRESETS:
            presets = ", ".join(f"{preset} (alpha {alpha:g})" for preset, alpha in PRESETS.items())
            raise UserError(
                f"arm {part!r}: name its alpha,"
                f" as in {name or 'more-relevance'}:30. Known: {presets}."
            )
        try:
            alpha = float(written_alpha) if written_alpha else PRESETS[name]
        except ValueError:
            raise UserError(
                f"arm {part!r}: alpha {written_alpha!r} is no number."
                " Write NAME:ALPHA, as in more-relevance:30."
            ) from None
        arms.append({"name": name, "alpha": alpha})
    if len(arms) < 2:
        raise UserError(
            f"arms {text!r}: give two or more, the control first, such as engagement-only,mtmh."
        )
    return read_arms(arms)


def _check_out(out: Path) -> None:
    """Nothing is overwritten but what a simulation wrote."""
    if not out.exists():
        return
    try:
        simulated = json.loads((out / "experiment.json").read_text())["simulated"]
    except (OSError, ValueError, KeyError, TypeError):
        simulated = False
    if simulated is not True:
        raise UserError(
            f"{out} is there, and not what a simulation wrote: name another folder with --out."
        )
