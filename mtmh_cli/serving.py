"""Serving: package a run, serve it, look after the log."""

from pathlib import Path
from typing import Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import Port, RouterFile, Run, Runs, Settings, app


@app.command()
def package(
    run: Run,
    version: Annotated[str, typer.Option(help="Number of the version, as in the registry.")],
    store: Annotated[
        Path, typer.Option(help="Folder of the deployed versions, such as runs/serving/synthetic.")
    ],
    features: Annotated[
        Path | None, typer.Option(help="Folder with the feature store's registry.db and online.db.")
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Let this version serve from now on.")
    ] = False,
) -> None:
    """Package a run's retriever for Triton and the router, and install it into a store. The
    pipeline does it itself.
    """
    import tempfile

    from serving.triton import store as packages
    from serving.triton.export import write_package

    store.mkdir(parents=True, exist_ok=True)
    # there, so that it can be hard links
    with tempfile.TemporaryDirectory(prefix=".package-", dir=store) as folder:
        packages.install(write_package(run, version, Path(folder) / version, features), store)
    if promote:
        packages.promote(store, version)
    print(f"version {version} is in {store}{', and serves' if promote else ''}")


@app.command()
def serve(
    data: Annotated[
        str | None, typer.Option(help="Whose champion to serve.", show_default="the latest run's")
    ] = None,
    runs: Runs = Path("runs"),
    config: RouterFile = None,
    settings: Settings = None,
    port: Port = 8080,
    http_port: Annotated[
        int | None,
        typer.Option(
            help="Let Triton answer over HTTP, too.", min=1, max=65535, show_default="off"
        ),
    ] = None,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
) -> None:
    """Serve the champion until Ctrl-C: the router on `port` (gRPC one above), Triton behind it on
    the others.

    Exposures and engagements go to the folder `log` beside the served versions.
    """
    from pipelines.runs_folder import serving
    from serving.router.settings import Source
    from serving.serve import serve as start
    from serving.triton.supervisor import Ports

    store = serving(runs, data)
    # Before the user's own settings, which win where they say otherwise.
    places = [
        f"listen.port={port}",
        f"listen.grpc_port={port + 1}",
        f"log.directory={store.resolve() / 'log'}",
    ]
    start(
        store,
        Ports(http_port, grpc_port, metrics_port),
        Source(config, [*places, *(settings or [])]),
    )


@app.command()
def route(config: RouterFile = None, settings: Settings = None) -> None:
    """Run the router alone, in front of a Triton that runs elsewhere (serving/router/router.yaml
    has its settings).
    """
    from serving.router.app import serve as start
    from serving.router.settings import Source

    start(Source(config, settings or []))


log_app = typer.Typer(
    help="Look after the router's log of exposures and engagements.", no_args_is_help=True
)
app.add_typer(log_app, name="log")


@log_app.command()
def compact(
    directory: Annotated[
        Path, typer.Argument(help="The log's folder: log.directory of the router.")
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder of the Parquet tables; rows are added to what is there.")
    ],
) -> None:
    """Turn the finished segments of the log into Parquet, each record exactly once. Safe to kill
    and to run again.
    """
    from mtmh.exposures.compact import compact as compact_log

    try:
        done = compact_log(directory, out)
    except OSError as error:  # such as a full disk
        raise UserError(
            f"stopped by {error}. Nothing is lost: mend that, and run it again."
        ) from None
    print(
        f"{done.segments:,} segments: {done.exposures:,} exposures,"
        f" {done.engagements:,} engagements -> {out}"
    )
    # Set aside rather than dropped: somebody may be writing records that nobody can use.
    if done.rejected:
        print(
            f"{done.rejected:,} pieces that could not be read, with reasons -> {out / 'rejected'}"
        )
