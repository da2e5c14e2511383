"""The application that commands register with, the options that several of them take, and the
entry point."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mtmh.disk import full_disk_explained
from mtmh.display import visible_lines
from mtmh.environment import set_environment
from mtmh.errors import UserError

app = typer.Typer(
    help="Item-to-item retrieval that is both engaging and relevant: from an interaction log"
    " to a gated retriever.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Runs = Annotated[
    Path, typer.Option(help="Folder of the runs, of MLflow's database and of the steps' cache.")
]
Data = Annotated[
    str,
    typer.Option(
        help="Folder with the data, in the contract's or a public form, a path or URL (s3://..),"
        " or 'synthetic'."
    ),
]
Size = Annotated[str, typer.Option(help="laptop, gpu or paper: a file of pipelines/configs.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file, over that of the size.")
]
RouterFile = Annotated[
    Path | None, typer.Option("--config", help="The router's settings, over its defaults.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value; may be given many times.")
]
Columns = Annotated[
    str | None,
    typer.Option(help="Columns under other names: user_id=uid,item_id=movieId,timestamp=ts."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Run = Annotated[Path, typer.Argument(help="A run, such as runs/latest, or a retriever directory.")]
Alpha = Annotated[
    int | None,
    typer.Option(
        min=0, max=100, help="Percent from the engagement head.", show_default="the run's"
    ),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")]
Host = Annotated[
    str,
    typer.Argument(help="URL of the Kubeflow Pipelines server; of a gateway it ends in /pipeline."),
]
TrackingUri = Annotated[str, typer.Option(help="MLflow server, as the steps reach it.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the token that the server knows you by.", show_default="MTMH_KFP_TOKEN"
    ),
]
CaFile = Annotated[
    Path | None, typer.Option(help="Certificates in PEM that sign the server's own.")
]
Cron = Annotated[str, typer.Option(help="When: six fields, seconds first, in UTC.")]
Count = Annotated[int, typer.Option("-k", "--count", min=1, help="How many candidates to show.")]


def with_columns(settings: list[str] | None, columns: str | None) -> list[str]:
    """The settings, with `--columns` as `data.columns`. Raises UserError when that is not of its
    form."""
    import json

    from mtmh.data.column_map import parse_columns

    return [
        *(settings or []),
        *([f"data.columns={json.dumps(parse_columns(columns))}"] if columns else []),
    ]


def check_cron(cron: str) -> None:
    """Raises UserError unless `cron` has the six fields of Kubeflow's schedules."""
    if len(cron.split()) != 6:
        raise UserError(
            f"--cron {cron!r}: six fields, seconds first;"
            " every day at half past midnight is '0 30 0 * * *'."
        )


def main() -> None:
    """Entry point: a UserError, a full disk and a package that is not installed are one message and
    exit status 2.
    """
    set_environment()
    try:
        with full_disk_explained(Path.cwd()):
            app()
    except UserError as error:
        print(f"mtmh: {visible_lines(str(error))}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package) is not None:
            raise  # it is there, without such a module: a fault of ours
        print(
            f"mtmh: this command needs the package {package}, which is not installed. The router's"
            " image has what `mtmh route` needs, the pipeline's everything; elsewhere write"
            " pip install '.[pipeline,serving,monitoring]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "mtmh: interrupted. Finished steps are kept: the same command goes on from there.",
            file=sys.stderr,
        )
        sys.exit(130)
