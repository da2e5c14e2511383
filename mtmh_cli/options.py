"""Options and arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[
    Path, typer.Option(help="Folder of the runs, of MLflow's database and of the steps' cache.")
]
Data = Annotated[
    str,
    typer.Option(help="Folder with the data, in the contract's or a public form, or 'synthetic'."),
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
