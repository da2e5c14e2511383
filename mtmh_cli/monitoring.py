"""Monitoring: every day of an experiment in figures, with bounds, drift and a dashboard."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mtmh.display import visible
from mtmh.errors import UserError
from mtmh_cli.application import ConfigFile, Port, Runs, Settings, app

Folder = Annotated[
    Path,
    typer.Argument(metavar="place", help="An experiment folder, as `mtmh simulate` writes it."),
]
Out = Annotated[Path, typer.Option(help="Folder of Evidently's workspace and of the figures.")]
Bounds = Annotated[
    Path | None,
    typer.Option(help="YAML file of bounds.", show_default="monitoring/evidently/bounds.yaml"),
]
DayOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]

watch_app = typer.Typer(
    help="The monitor as a pipeline: a day at a time, and retraining.", no_args_is_help=True
)


@app.command()
def monitor(
    folder: Folder = Path("runs/watched"),
    out: Out = Path("runs/monitoring"),
    bounds: Bounds = None,
    first: DayOption = None,
    last: DayOption = None,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the dashboard until Ctrl-C.")
    ] = True,
    port: Port = 8090,
) -> None:
    """Monitor the days of an experiment (by default: all), say what is out of bounds, and serve the
    dashboard."""
    from mtmh.experiment.folder import open_experiment

    opened = open_experiment(folder)
    from monitoring.evidently.bounds import DEFAULT, read_bounds
    from monitoring.evidently.monitor import WORKSPACE, monitor

    days = (first.date() if first else None, last.date() if last else None)
    monitored = monitor(opened, out, read_bounds(bounds or DEFAULT), *days)
    print("\n".join(map(visible, monitored.summary())))
    # This command only looks; a day's run is what retrains.
    if monitored.retrain:
        print(
            f"{len(monitored.retrain)} of these raise a retraining run:"
            " mtmh watch run does the last day, and that."
        )
    print(f"workspace {out / WORKSPACE}, figures {out / 'figures.parquet'}")
    if serve:
        from monitoring.evidently.dashboard import TABS
        from monitoring.evidently.server import address
        from monitoring.evidently.server import serve as start

        print(
            f"dashboard {address(port, monitored.project, TABS[0])}  (Ctrl-C ends it)", flush=True
        )
        start(out / WORKSPACE, port)


app.add_typer(watch_app, name="watch")


@watch_app.command()
def run(
    folder: Folder = Path("runs/watched"),
    day: DayOption = None,
    out: Out = Path("runs/monitoring"),
    bounds: Bounds = None,
    runs: Runs = Path("runs"),
    settings: Settings = None,
) -> None:
    """Run the pipeline here for one day (by default: the experiment's last); retrain when it asks
    for that.
    """
    import sys

    from mtmh.experiment.folder import open_experiment
    from pipelines import monitor as watch
    from pipelines.local import StepError

    chosen = day.date() if day else open_experiment(folder).experiment.last_day
    try:
        raised = watch.run(folder, out, chosen, bounds, runs, settings or [])
    except StepError as error:
        print(f"mtmh: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    outcome = f"retrained; the run is {runs / 'latest'}" if raised else "no retraining"
    print(f"{chosen}: {outcome}")


@watch_app.command(name="compile")
def compile_(
    out: Annotated[Path, typer.Argument(help="Where to write the YAML.")],
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Write the pipeline as Kubeflow's IR YAML."""
    from mtmh.config import load_config
    from pipelines.arguments import layers
    from pipelines.kubeflow import compile_pipeline
    from pipelines.monitor import define

    compile_pipeline(
        define(load_config(*layers("synthetic", "gpu", config), settings=settings).cluster), out
    )
    print(f"wrote {out}")


@watch_app.command()
def schedule(
    host: Annotated[
        str, typer.Argument(help="URL of the Kubeflow Pipelines server, as the steps reach it too.")
    ],
    folder: Annotated[
        Path, typer.Option("--place", help="The experiment folder, as the steps see it.")
    ],
    name: Annotated[
        str, typer.Option(help="Name of the data that is served, such as movielens-small.")
    ],
    tracking_uri: Annotated[str, typer.Option(help="MLflow server, as the steps reach it.")],
    out: Annotated[
        Path | None, typer.Option(help="The monitor's folder, as the steps see it.")
    ] = None,
    cron: Annotated[
        str, typer.Option(help="When: six fields, seconds first, in UTC.")
    ] = "0 30 0 * * *",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Let a Kubeflow Pipelines server run it every day for the day before, and submit retraining
    runs.
    """
    from mtmh.config import load_config
    from pipelines import monitor as watch
    from pipelines.arguments import layers

    # Kubeflow wants seconds first: cron's usual five fields would mean another time.
    if len(cron.split()) != 6:
        raise UserError(
            f"--cron {cron!r}: six fields, seconds first;"
            " every day at half past midnight is '0 30 0 * * *'."
        )
    chosen = load_config(*layers(name, "gpu", config), settings=settings)
    # What one would type to start the same retraining by hand.
    command = ["submit", host, "--tracking-uri", tracking_uri, *watch.as_options(settings or [])]
    # On the volume by default, where the next day's step sees it again.
    watched = watch.arguments(
        folder, out or Path(chosen.cluster.volume) / "monitoring", name, command
    )
    print(f"recurring run {watch.schedule(host, watched, cron, chosen, tracking_uri)}")
