"""Experiments: plan one, and compare the arms of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtmh_cli.application import app

if TYPE_CHECKING:
    from mtmh.experiment.statistics import Power


@app.command()
def power(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="place", help="Folder of an earlier experiment, as `mtmh simulate` writes it."
        ),
    ],
    users: Annotated[
        int | None,
        typer.Option(
            min=4, help="Users of both arms together.", show_default="as many as there were"
        ),
    ] = None,
    lift: Annotated[
        float, typer.Option(help="Relative effect that is hoped for: 0.01 is one percent.")
    ] = 0.01,
    share: Annotated[float, typer.Option(help="Share of the users in the treatment.")] = 0.5,
    certainty: Annotated[
        float, typer.Option("--power", help="Chance to find an effect that is there.")
    ] = 0.8,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Planned days.", show_default="as many as there were"),
    ] = None,
) -> None:
    """Before an experiment: the smallest effect it would find in each metric, and the users that an
    effect takes."""
    from datetime import timedelta

    from mtmh.errors import UserError
    from mtmh.experiment import statistics
    from mtmh.experiment.data import experiment_data
    from mtmh.experiment.folder import open_experiment
    from mtmh.experiment.units import user_days

    opened = open_experiment(folder)
    experiment = opened.experiment
    if days is not None and days > experiment.days:
        raise UserError(
            f"{folder} has a log of {experiment.days} days: it does not tell how users differ over "
            f"{days}. Plan with --days {experiment.days} or fewer; a longer experiment finds the "
            "same effects or smaller ones."
        )

    # The last days of the log stand for the experiment: its control for both arms.
    planned = days or experiment.days
    first = experiment.last_day - timedelta(days=planned - 1)
    rows = user_days(experiment_data(opened, first, experiment.last_day))
    of_arms = rows.filter(rows.arm.isin([experiment.control, experiment.treatment])).to_pyarrow()
    n_users = users or len(of_arms["user_id"].unique())
    control = rows.filter(rows.arm == experiment.control).to_pyarrow()
    before = statistics.pre_period(opened.history, first)
    powers = statistics.power(control, n_users, lift, share, certainty, before=before)
    title = (
        f"{n_users:,} users in both arms together, {planned} days; effects are found"
        f" {certainty:.0%} of the time"
    )
    _show(powers, title, lift)


def _show(powers: "list[Power]", title: str, lift: float) -> None:
    """A row a metric: its value in control, what is found, and the users that `lift` takes."""
    from mtmh.experiment.metrics import METRICS
    from mtmh_cli.summary import plain_table, screen

    table = plain_table(title)
    table.add_column("metric")
    for column in ("in control", "smallest effect", "looking daily", f"users for {lift:+.2%}"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in powers:
        name = METRICS[result.metric].title
        # A metric that cannot be judged says why in place of its figures.
        if result.reason:
            table.add_row(name, "", result.reason)
            continue
        name += " (CUPED)" if result.cuped else ""
        effects = (f"{result.detectable:.2%}", f"{result.detectable_always:.2%}")
        table.add_row(name, f"{result.baseline:.4g}", *effects, f"{result.users_needed:,.0f}")
    screen().print(table)
    print(
        "smallest effect: relative, looking once at the end."
        " CUPED: with the users' own past taken into account."
    )


@app.command()
def ab(
    folder: Annotated[
        Path, typer.Argument(metavar="place", help="An experiment folder, such as runs/watched.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report.", show_default="PLACE/ab")
    ] = None,
) -> None:
    """Compare an experiment's two arms: ab.html (verdict first), ab.json (every effect),
    verdict.json (all the rest)."""
    from monitoring.ab_page.page import write
    from mtmh.display import visible
    from mtmh.experiment.comparison import compare, read_tables
    from mtmh.experiment.dealt import ABOUT
    from mtmh.experiment.folder import open_experiment
    from mtmh.version_hash import code_version

    opened = open_experiment(folder)
    comparison = compare(opened, read_tables(opened))
    report = out or folder / "ab"
    write(comparison, report, code_version())
    # The verdict is for the screen; every effect is in the files.
    verdict = comparison.verdict
    lines = [f"{verdict.title}. {verdict.lead}", *verdict.reasons]
    print("\n  ".join(map(visible, lines)))
    # Said every time, or the verdict might be taken for one about people.
    if opened.experiment.simulated:
        print("The users are simulated.")
    if opened.experiment.dealt_from is not None:
        print(ABOUT)
    print(f"report: {report / 'ab.html'}")
