"""Simulation: users who live on the synthetic world, are served, respond, and leave a log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtmh.cli.application import app

if TYPE_CHECKING:
    from mtmh.data.platform.simulate import Told


@app.command()
def simulate(
    run: Annotated[Path, typer.Option(help="Run over the synthetic world; its retriever serves.")] = Path(
        "runs/latest"
    ),
    out: Annotated[Path, typer.Option(help="Folder of the watched place to write.")] = Path("runs/watched"),
    days: Annotated[int, typer.Option(min=1, max=365, help="From the day after the world's last one.")] = 14,
    arms: Annotated[
        str, typer.Option(help="The control first: engagement-only (alpha 100), mtmh (alpha 50), or NAME:ALPHA.")
    ] = "engagement-only,mtmh",
    users: Annotated[int | None, typer.Option(min=2, help="How many live there.", show_default="the world's")] = None,
    world: Annotated[str, typer.Option(help="How users behave: default, or habit-only.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Of what happens; the world's own seed is the run's.")] = 0,
    refresh_hours: Annotated[int, typer.Option(min=1, help="How often new items enter the index.")] = 24,
) -> None:
    """Let simulated users live with the arms of an experiment, and write the log that they leave."""
    from mtmh.retrieval.living import Plan, live

    plan = Plan(days, arms, users, world, seed, refresh_hours)
    told = live(run, plan, out, after_day=_tell)
    print(
        f"{told.days} days of simulated users in {told.seconds:.1f} s, {told.visits / told.seconds:,.0f} served/s: "
        f"{told.visits:,} visits, {told.exposures:,} exposures, {told.engagements:,} engagements -> {out}"
    )


def _tell(told: "Told") -> None:
    print(
        f"day {told.days}: {told.visits:,} visits so far, {told.visits / told.seconds:,.0f} served/s, "
        f"{told.items:,} items published at the last refresh",
        flush=True,
    )
