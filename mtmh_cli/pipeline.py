"""The pipeline: run it here or on a cluster, tune, look at the runs."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import (
    CaFile,
    Columns,
    ConfigFile,
    Cron,
    Data,
    Host,
    Runs,
    Seed,
    Settings,
    Size,
    TokenFile,
    TrackingUri,
    app,
    check_cron,
    with_columns,
)

if TYPE_CHECKING:
    from mtmh.config import Config


@app.command()
def run(
    data: Data = "synthetic",
    size: Size = "laptop",
    config: ConfigFile = None,
    settings: Settings = None,
    seed: Seed = None,
    runs: Runs = Path("runs"),
    columns: Columns = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What champion and served store go by.", show_default="the data's folder"
        ),
    ] = None,
) -> None:
    """Run the whole pipeline: prepare, train, index, evaluate, gate, report, register, package,
    deploy.
    """
    from mtmh_cli.summary import summarize
    from pipelines import local

    started = time.perf_counter()
    chosen = _announced(data, size, config, with_columns(settings, columns), seed)
    try:
        finished = local.run(data, chosen, runs, name=name)
    except local.StepError as error:
        print(f"mtmh: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    summarize(finished, runs, started)


@app.command(name="compile")
def compile_(
    out: Annotated[Path, typer.Argument(help="Where to write the YAML.")],
    tracking_uri: Annotated[str, typer.Option(help="MLflow server, as the steps reach it.")] = "",
    data: Data = "synthetic",
    size: Size = "laptop",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Write the pipeline as Kubeflow's IR YAML, with these settings as the defaults of all its
    parameters: it runs from Kubeflow's page as it is."""
    from mtmh.config import load_config
    from pipelines.arguments import data_name, layers, on_cluster
    from pipelines.kubeflow import compile_pipeline
    from pipelines.main import define

    chosen = load_config(*layers(data, size, config), settings=settings)
    arguments = on_cluster(chosen, tracking_uri, data_name(data)) | {"source": data}
    given = {name: value for name, value in arguments.items() if value != ""}
    compile_pipeline(define(chosen.cluster), out, given)
    print(f"wrote {out}")


@app.command()
def submit(
    host: Host,
    tracking_uri: TrackingUri,
    data: Data = "synthetic",
    size: Size = "gpu",
    config: ConfigFile = None,
    settings: Settings = None,
    run_name: Annotated[
        str, typer.Option(help="What the run is called.", show_default="data and time")
    ] = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Start the pipeline on a Kubeflow Pipelines server."""
    from components.connection import Connection
    from mtmh.config import load_config
    from pipelines import kubeflow
    from pipelines.arguments import layers
    from pipelines.main import define

    chosen = load_config(*layers(data, size, config), settings=settings)
    connection = Connection(host, token_file, ca_file)
    pipeline = define(chosen.cluster)
    print(f"run {kubeflow.submit(pipeline, connection, data, chosen, tracking_uri, run_name)}")


@app.command()
def schedule(
    host: Host,
    tracking_uri: TrackingUri,
    cron: Cron,
    data: Data = "synthetic",
    size: Size = "gpu",
    config: ConfigFile = None,
    settings: Settings = None,
    run_name: Annotated[
        str,
        typer.Option(help="The schedule; one of the same name is replaced.", show_default="data"),
    ] = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Let a Kubeflow Pipelines server run the pipeline again and again."""
    from components.connection import Connection
    from mtmh.config import load_config
    from pipelines import kubeflow
    from pipelines.arguments import layers
    from pipelines.main import define

    check_cron(cron)
    chosen = load_config(*layers(data, size, config), settings=settings)
    pipeline, connection = define(chosen.cluster), Connection(host, token_file, ca_file)
    recurring = kubeflow.schedule(pipeline, connection, data, chosen, tracking_uri, cron, run_name)
    print(f"recurring run {recurring}")


@app.command()
def preflight(
    tracking_uri: TrackingUri = "",
    size: Size = "gpu",
    config: ConfigFile = None,
    settings: Settings = None,
    context: Annotated[
        str, typer.Option(help="kubectl's context of the cluster.", show_default="the current one")
    ] = "",
) -> None:
    """See whether a run would find all it needs on a cluster: a pod as a step's looks."""
    from mtmh.config import load_config
    from pipelines.arguments import layers
    from pipelines.preflight import preflight as look
    from serving.cluster.pods import connected

    chosen = load_config(*layers("synthetic", size, config), settings=settings)
    findings = look(chosen.cluster, tracking_uri, connected(context))
    for finding in findings:
        print(f"{'no' if finding.problem else 'ok'}  {finding.need}")
    if problems := [f"{lack.need}: {lack.problem}" for lack in findings if lack.problem]:
        raise UserError("a run would fail.\n" + "\n".join(problems))


@app.command()
def tune(
    data: Data,
    size: Size = "laptop",
    config: ConfigFile = None,
    settings: Settings = None,
    seed: Seed = None,
    runs: Runs = Path("runs"),
) -> None:
    """Choose the teacher's temperature and w_r for a data set on T1's tail; runs over it use them
    from then on.
    """
    from pipelines.trial import scratch
    from pipelines.tune import tune as choose
    from pipelines.tune import write_overlay

    chosen = _announced(data, size, config, settings, seed)
    print(f"wrote {write_overlay(choose(data, chosen, scratch(data, runs)))}")


def _announced(
    data: str, size: str, config: Path | None, settings: list[str] | None, seed: int | None
) -> "Config":
    """The configuration that these options make, once the user has read which data and files it
    comes from."""
    from mtmh.config import load_config
    from mtmh_cli.summary import announce
    from pipelines.arguments import layers

    files = layers(data, size, config)
    seeded = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    chosen = load_config(*files, settings=seeded)
    announce(data, files)
    return chosen


@app.command()
def ui(
    runs: Runs = Path("runs"), port: Annotated[int, typer.Option(min=1, max=65535)] = 5000
) -> None:
    """Open MLflow's page over the runs, on this machine only."""
    from pipelines.local import tracking_uri

    # MLflow would create an empty database, and show no runs.
    if not (runs / "mlflow.db").exists():
        raise UserError(
            f"{runs} has no mlflow.db: do a run first (mtmh run), or name its folder with --runs."
        )
    # One worker: a single person looks at it, and more would only take memory.
    options = [
        "--backend-store-uri",
        tracking_uri(runs),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    # In place of this process, so that Ctrl-C reaches MLflow itself.
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *options])


@app.command()
def clean(
    runs: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
    scratch: Annotated[
        Path | None, typer.Option(help="Folder of the steps.", show_default="RUNS/.scratch")
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="So many newest runs stay, however old.")] = 5,
    older_than: Annotated[int, typer.Option(min=1, help="Days that all else must be old.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Remove what nobody needs any more: old runs that do not serve, checkpoints, unused content
    vectors, days of the log that no experiment looks at.
    """
    from datetime import UTC, datetime, timedelta

    from pipelines.retention import clean as remove

    age, now = timedelta(days=older_than), datetime.now(UTC)
    removals = remove(runs, scratch or runs / ".scratch", keep, age, dry_run, now)
    for removal in removals:
        print(f"{removal.size / 2**20:10,.1f} MiB  {removal.what}: {removal.path}")
    total = sum(removal.size for removal in removals) / 2**20
    verb = "would go" if dry_run else "removed"
    print(f"{verb}: {len(removals):,} files and folders, {total:,.1f} MiB")
