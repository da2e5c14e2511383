"""Monitoring: every day of an experiment in figures, with bounds, drift and a dashboard."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from mtmh.display import visible
from mtmh_cli.application import (
    CaFile,
    ConfigFile,
    Cron,
    Host,
    Port,
    RouterFile,
    Runs,
    Settings,
    TokenFile,
    TrackingUri,
    app,
    check_cron,
)

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="place",
        help="An experiment folder, as `mtmh watch folder` and `mtmh simulate` write it.",
    ),
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
    yesterday: Annotated[
        bool, typer.Option("--yesterday", help="The day before, in UTC, alone; or nothing yet.")
    ] = False,
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
    if yesterday:
        day = (datetime.now(UTC) - timedelta(days=1)).date()
        if day < opened.experiment.first_day:
            print(f"{folder} begins on {opened.experiment.first_day}: nothing to look at yet")
            return
        days = (day, day)
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


@watch_app.command(name="folder")
def folder_(
    out: Annotated[Path, typer.Argument(metavar="place", help="The folder to write.")],
    store: Annotated[
        Path, typer.Option(help="Folder of the deployed versions; the routers' log lies in it.")
    ],
    config: RouterFile = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The run that serves, where it lies here.", show_default="MLflow's"),
    ] = None,
    tracking_uri: Annotated[str, typer.Option(help="MLflow, where the served run is.")] = "",
    new: Annotated[
        Path | None, typer.Option(help="Folder of the items since that run's data (mtmh intake).")
    ] = None,
    first_day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Of the experiment.", show_default="the log's"),
    ] = None,
) -> None:
    """Make an experiment folder of what is served, out of the routers' log and the served run. Run
    it again every day; before it, mtmh log compact STORE/log PLACE/tables.
    """
    from monitoring.production import write_folder
    from pipelines.monitor import served_run
    from serving.router.settings import Source

    settings = Source(config, [f"store={store}"]).read().experiment
    run = run or served_run(store, tracking_uri, out)
    first = first_day.date() if first_day else None
    experiment = write_folder(out, store, run, settings, new, first)
    arms = f"{experiment.treatment} against {experiment.control}"
    print(f"{out}: {arms}, {experiment.first_day} to {experiment.last_day}")
    if experiment.dealt_from is not None:
        from mtmh.experiment.dealt import ABOUT

        print(ABOUT)


@watch_app.command()
def dashboard(
    out: Out = Path("runs/monitoring"),
    host: Annotated[
        str, typer.Option(help="Address to listen on; it asks nobody for a token.")
    ] = "127.0.0.1",
    port: Port = 8090,
) -> None:
    """Serve the dashboard alone, of what mtmh monitor or the pipeline writes to the folder, until
    Ctrl-C.
    """
    from monitoring.evidently.monitor import WORKSPACE
    from monitoring.evidently.server import serve as start

    print(f"dashboard http://{host}:{port}  (Ctrl-C ends it)", flush=True)
    start(out / WORKSPACE, port, host)


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
    host: Host,
    folder: Annotated[
        Path, typer.Option("--place", help="The experiment folder, as the steps see it.")
    ],
    name: Annotated[
        str, typer.Option(help="Name of the data that is served, such as movielens-small.")
    ],
    tracking_uri: TrackingUri,
    out: Annotated[
        Path | None, typer.Option(help="The monitor's folder, as the steps see it.")
    ] = None,
    cron: Cron = "0 30 0 * * *",
    config: ConfigFile = None,
    settings: Settings = None,
    run_name: Annotated[
        str,
        typer.Option(help="The schedule; one of the same name is replaced.", show_default="--name"),
    ] = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    inside: Annotated[
        str, typer.Option(help="URL of the server as the steps reach it.", show_default="HOST")
    ] = "",
) -> None:
    """Let a Kubeflow Pipelines server run it every day for the day before, and submit retraining
    runs.
    """
    from components.connection import Connection
    from mtmh.config import load_config
    from pipelines import monitor as watch
    from pipelines.arguments import layers

    check_cron(cron)
    chosen = load_config(*layers(name, "gpu", config), settings=settings)
    # Files of this machine are not there when somebody reads the note: the settings themselves go.
    options = watch.as_options(watch.whole(chosen))
    command = ["submit", inside or host, "--tracking-uri", tracking_uri, *options]
    # On the volume by default, where the next day's step sees it again.
    watched = watch.arguments(
        folder, out or Path(chosen.cluster.volume) / "monitoring", name, command
    )
    connection = Connection(host, token_file, ca_file)
    recurring = watch.schedule(connection, watched, cron, chosen, tracking_uri, run_name, inside)
    print(f"recurring run {recurring}")
