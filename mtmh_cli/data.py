"""Data: import, check, describe, make up."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import Columns, ConfigFile, Settings, app, with_columns

data_app = typer.Typer(help="Look at a data set.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command(name="import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Folder to read, in the contract's or a public form.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write the contract's Parquet files to.")],
    max_rejected_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of bad rows to put up with.")
    ] = 0.01,
) -> None:
    """Turn public data (MIND, MovieLens, Amazon, KuaiRand, Yelp) into the data contract's Parquet
    files.
    """
    from mtmh.data.importers import write_contract

    for name, rows in write_contract(source, out, max_rejected_share).items():
        print(f"{name}: {rows:,} rows -> {out / name}.parquet")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Folder with the data.")],
    config: ConfigFile = None,
    settings: Settings = None,
    columns: Columns = None,
) -> None:
    """Check data against the contract, split it as a run would, and say what was found."""
    import shutil
    import tempfile

    from mtmh.config import load_config
    from mtmh.data.prepare import prepare
    from pipelines.arguments import layers

    chosen = load_config(
        *layers(str(data), "laptop", config), settings=with_columns(settings, columns)
    )
    with tempfile.TemporaryDirectory() as out:
        try:
            prepare(str(data), Path(out) / "prepared", chosen.data, chosen.seed)
        except UserError as error:
            message, rejected = str(error), Path(out) / "prepared" / "rejected.parquet"
            # The rejected rows outlive the temporary folder: they move to where the user is.
            if rejected.exists():
                target = Path("rejected.parquet").resolve()
                shutil.move(rejected, target)
                message = message.replace(str(rejected), str(target))
            raise UserError(message) from None
    print(f"{data} keeps the contract")


@data_app.command()
def describe(
    folder: Annotated[Path, typer.Argument(help="Folder with the data.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    columns: Columns = None,
) -> None:
    """Say what a data set holds, and what it lacks for this method."""
    import json
    from contextlib import redirect_stdout

    from mtmh.config import load_config
    from mtmh.data.profile.advice import findings
    from mtmh.data.profile.describe import describe as profile_of
    from mtmh_cli import description
    from pipelines.arguments import layers

    # The settings that a run over this folder would have, so that both see the same data.
    settings = load_config(
        *layers(str(folder), "laptop", None), settings=with_columns(None, columns)
    ).data
    with redirect_stdout(sys.stderr if as_json else sys.stdout):  # what the readers say is no JSON
        profile = profile_of(folder, settings)
    # What the figures mean for the method comes along in both forms.
    advice = findings(profile, settings)
    if as_json:
        print(json.dumps(description.as_json(profile, advice), indent=2))
    else:
        description.show_description(profile, advice)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to write the contract's Parquet files to.")],
    users: Annotated[int, typer.Option(min=1)] = 1500,
    items: Annotated[int, typer.Option(min=1)] = 1400,
    days: Annotated[int, typer.Option(min=1)] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a synthetic world as contract Parquet."""
    from mtmh.data.files import write_parquet
    from mtmh.data.synthetic import make_world

    for name, table in make_world(users, items, days, seed).tables.items():
        write_parquet(table, out / f"{name}.parquet")
        print(f"{name}: {table.num_rows:,} rows -> {out / name}.parquet")
