"""Simulation: users who live on the synthetic world, are served, respond, and leave a log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import app

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from mtmh.experiment.arms import Arm
    from simulation.platform import Totals
    from simulation.population import Population
    from simulation.run import MakeServer
    from simulation.server import Server


ServedRun = Annotated[
    Path, typer.Option(help="Run over the synthetic world; its retriever serves.")
]
Out = Annotated[Path, typer.Option(help="Folder of the watched place to write.")]
Days = Annotated[int, typer.Option(min=1, max=365, help="From the day after the world's last one.")]
Arms = Annotated[
    str,
    typer.Option(
        help="The control first: engagement-only (alpha 100), mtmh (alpha 50), or NAME:ALPHA."
    ),
]
Users = Annotated[
    int | None, typer.Option(min=2, help="How many live there.", show_default="the world's")
]
World = Annotated[str, typer.Option(help="How users behave: default, or habit-only.")]
EventSeed = Annotated[
    int, typer.Option(min=0, help="Of what happens; the world's own seed is the run's.")
]
RefreshHours = Annotated[int, typer.Option(min=1, help="How often new items enter the index.")]
Router = Annotated[
    str | None,
    typer.Option(
        help="URL of a router that serves, instead of this process. It needs the same arms."
    ),
]
Store = Annotated[
    Path | None,
    typer.Option(help="That router's folder of versions; without it no item is added."),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with that router's bearer token.")]


@app.command()
def simulate(
    run: ServedRun = Path("runs/latest"),
    out: Out = Path("runs/watched"),
    days: Days = 14,
    arms: Arms = "engagement-only,mtmh",
    users: Users = None,
    world: World = "default",
    seed: EventSeed = 0,
    refresh_hours: RefreshHours = 24,
    router: Router = None,
    store: Store = None,
    token_file: TokenFile = None,
) -> None:
    """Let simulated users live with the arms of an experiment, and write the log that they
    leave.
    """
    from contextlib import ExitStack

    from simulation.run import SimulationPlan, run_simulation

    # A line as every day ends: a simulation takes minutes.
    def show(progress: "Totals") -> None:
        print(
            f"day {progress.days}: {progress.visits:,} visits so far,"
            f" {progress.visits / progress.seconds:,.0f} served/s, "
            f"{progress.items:,} items published at the last refresh",
            flush=True,
        )

    plan = SimulationPlan(days, arms, users, world, seed, refresh_hours)
    with ExitStack() as stack:
        server = _through(router, run, store, token_file, stack)
        progress = run_simulation(run, plan, out, server, show)
    served_per_second = progress.visits / progress.seconds
    print(
        f"{progress.days} days of simulated users in {progress.seconds:.1f} s,"
        f" {served_per_second:,.0f} served/s: {progress.visits:,} visits,"
        f" {progress.exposures:,} exposures, {progress.engagements:,} engagements -> {out}"
    )


def _through(
    router: str | None, run: Path, store: Path | None, token_file: Path | None, stack: "ExitStack"
) -> "MakeServer | None":
    """The router as the server; None for this process."""
    if router is None:
        if store or token_file:
            raise UserError(
                "--store and --token-file belong to a router: name it with"
                " --router http://127.0.0.1:8080."
            )
        return None
    import pyarrow.parquet as pq

    from mtmh.retrieval.version import retrieval_settings
    from simulation.router_server import RouterServer, into_store

    token = token_file.read_text().strip() if token_file else None
    served = pq.read_table(run / "retriever" / "items.parquet")["item_id"]
    triggers = retrieval_settings(run).triggers

    # The router is asked as any client would; closed with the stack.
    def make(people: "Population", arms: "Sequence[Arm]") -> "Server":
        add_new = stack.enter_context(into_store(run, store)) if store else None
        server = RouterServer(
            router, people.user_ids, people.item_table, served, triggers, arms, token, add_new
        )
        return stack.enter_context(server)

    return make
