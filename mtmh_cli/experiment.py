"""Experiments: plan one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtmh_cli.application import app

if TYPE_CHECKING:
    from mtmh.experiment.statistics import Power


@app.command()
def power(
    place: Annotated[Path, typer.Argument(help="Folder of an earlier experiment, as `mtmh simulate` writes it.")],
    users: Annotated[
        int | None, typer.Option(min=4, help="Users of both arms together.", show_default="as many as there were")
    ] = None,
    lift: Annotated[float, typer.Option(help="Relative effect that is hoped for: 0.01 is one percent.")] = 0.01,
    share: Annotated[float, typer.Option(help="Share of the users in the treatment.")] = 0.5,
    certainty: Annotated[float, typer.Option("--power", help="Chance to find an effect that is there.")] = 0.8,
    days: Annotated[int | None, typer.Option(min=1, help="Planned days.", show_default="as many as there were")] = None,
) -> None:
    """Before an experiment: the smallest effect it would find in each metric, and the users that an effect takes."""
    from datetime import timedelta

    from mtmh.errors import UserError
    from mtmh.experiment import statistics
    from mtmh.experiment.data import experiment_data
    from mtmh.experiment.folder import open_experiment
    from mtmh.experiment.units import user_days

    opened = open_experiment(place)
    experiment = opened.experiment
    if days is not None and days > experiment.days:
        raise UserError(
            f"{place} has a log of {experiment.days} days: it does not tell how users differ over {days}. Plan with "
            f"--days {experiment.days} or fewer; a longer experiment finds the same effects or smaller ones."
        )
    planned = days or experiment.days
    first = experiment.last_day - timedelta(days=planned - 1)
    rows = user_days(experiment_data(opened, first, experiment.last_day))
    there = rows.filter(rows.arm.isin([experiment.control, experiment.treatment])).to_pyarrow()
    came = users or len(there["user_id"].unique())
    control = rows.filter(rows.arm == experiment.control).to_pyarrow()
    before = statistics.pre_period(opened.history, first)
    found = statistics.power(control, came, lift, share, certainty, before=before)
    _show(found, came, planned, lift, certainty)


def _show(found: "list[Power]", users: int, days: int, lift: float, certainty: float) -> None:
    from rich import box
    from rich.table import Table

    from mtmh.experiment.metrics import METRICS
    from mtmh_cli.summary import screen

    title = f"{users:,} users in both arms together, {days} days; effects are found {certainty:.0%} of the time"
    table = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    table.add_column("metric")
    for name in ("in control", "smallest effect", "looking daily", f"users for {lift:+.2%}"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        if one.reason:
            table.add_row(METRICS[one.metric].title, "", one.reason)
            continue
        name = METRICS[one.metric].title + (" (CUPED)" if one.cuped else "")
        effects = (f"{one.detectable:.2%}", f"{one.detectable_always:.2%}")
        table.add_row(name, f"{one.baseline:.4g}", *effects, f"{one.users_needed:,.0f}")
    screen().print(table)
    print("smallest effect: relative, looking once at the end. CUPED: with the users' own past taken into account.")
