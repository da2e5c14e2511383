"""Options that several benchmarks take."""

from pathlib import Path
from typing import Annotated

import typer

Items = Annotated[int, typer.Option(min=100, help="Items of the world, whose vectors are random.")]
Run = Annotated[Path, typer.Option(help="A run over the synthetic world.")]
Data = Annotated[
    list[str],
    typer.Option(
        help="A folder with data, or 'synthetic'; may be given many times: one result for each."
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds, from 0 on.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value; may be given many times.")
]
