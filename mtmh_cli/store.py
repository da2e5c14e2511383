"""Object stores: folders and served versions by URL."""

from pathlib import Path
from typing import Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import app

store_app = typer.Typer(
    help="Folders in an object store (s3://, gs://, az://).", no_args_is_help=True
)
app.add_typer(store_app, name="store")

Url = Annotated[str, typer.Argument(help="Where it lies, such as s3://bucket/serving/mine.")]


@store_app.command()
def fetch(
    url: Url,
    folder: Annotated[Path, typer.Argument(help="Where to write it.")],
    versions: Annotated[
        str | None,
        typer.Option(
            help="Of a served store: these versions, as '7 8', verified.", show_default="all files"
        ),
    ] = None,
) -> None:
    """Fetch a folder, or versions as Triton and the router load them. What Triton's pods start
    with, where nothing is mounted."""
    from mtmh import object_store
    from serving.triton.bucket import mirror

    if not object_store.is_url(url):
        raise UserError(f"{url} is a path: copy it, or write a URL.")
    if versions is None:
        object_store.fetch(url, folder)
        return
    numbers = versions.split()
    if wrong := [number for number in numbers if not number.isdigit()]:
        raise UserError(f"--versions: {wrong[0]!r} is no version. Write numbers, as '7 8'.")
    mirror(url, folder, numbers)
    print(f"{folder} has {', '.join(numbers) or 'no version, as none was asked for'}", flush=True)


@store_app.command()
def put(
    folder: Annotated[Path, typer.Argument(help="The folder.")],
    url: Url,
) -> None:
    """Put a folder of data into an object store, from where `--data URL` reads it."""
    from mtmh import object_store

    if not object_store.is_url(url):
        raise UserError(f"{url} is a path: copy it, or write a URL.")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder.")
    object_store.put(folder, url.rstrip("/"))
