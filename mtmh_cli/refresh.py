"""Refresh: new items into a trained version, and to those who are served."""

import time
from pathlib import Path
from typing import Annotated

import typer

from mtmh.errors import UserError
from mtmh_cli.application import Run, app

NewItems = Annotated[Path, typer.Argument(help="Parquet of the new items, in the contract's form.")]
NewFolder = Annotated[Path, typer.Argument(help="New folder for the version with these items.")]
SkipKnown = Annotated[
    bool, typer.Option("--skip-known", help="Leave out the items that the version holds already.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of encoded texts to read from and add to.")
]
Store = Annotated[
    Path | None,
    typer.Option(help="Folder of the deployed versions: package it there too, as the champion is."),
]
Promote = Annotated[bool, typer.Option("--promote", help="Let it serve from now on.")]
Namespace = Annotated[
    str, typer.Option(help="Of the cluster that serves from the store: roll it out there.")
]


@app.command()
def intake(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="items", help="Folder of Parquet files: every item since the last training."
        ),
    ],
    store: Annotated[Path, typer.Option(help="Folder of the deployed versions.")],
    tracking_uri: Annotated[str, typer.Option(help="MLflow, where the served version's run is.")],
    namespace: Namespace = "",
    cache: Cache = None,
) -> None:
    """Take the new items of a folder into the version that serves; none there, or all served
    already, is no error.
    """
    from pipelines.intake import take_in

    print(take_in(folder, store, tracking_uri, namespace, cache))


@app.command()
def refresh(
    run: Run,
    items: NewItems,
    out: NewFolder,
    skip_known: SkipKnown = False,
    cache: Cache = None,
    store: Store = None,
    promote: Promote = False,
    namespace: Namespace = "",
) -> None:
    """Add new items to a trained version, without training: each takes its place by its content."""
    if promote and store is None:
        raise UserError(
            "--promote needs the folder of the deployed versions: --store runs/serving/synthetic."
        )
    from mtmh.data.contract import read_parquet
    from mtmh.retrieval.intake import Intake
    from mtmh.retrieval.refresh import refresh as write

    # Timed with reading: that is what new items wait for.
    start = time.perf_counter()
    table = read_parquet(items)
    done = write(run, table, out, Intake.load(run, cache=cache, root=items.parent), skip_known)
    seconds, added = time.perf_counter() - start, len(done.items)
    if skip_known and (skipped := len(table) - added):
        print(f"{skipped:,} of {len(table):,} items are in the version already: left out")
    rate, before = added / seconds, len(done.retriever.items) - added
    print(f"{added:,} items added to {before:,} in {seconds:.1f} s ({rate:,.0f} items/s) -> {out}")
    if bare := int((~done.encoded.content.any(axis=1)).sum()):
        print(
            f"{bare:,} of them have no text or image that the version reads:"
            " placed by creator and numbers alone"
        )
    # The index grew, so that its nprobe was chosen again.
    for head, tuning in done.tunings.items():
        cells = f"nlist {tuning.nlist}, nprobe {tuning.nprobe}"
        print(f"{head}: {cells}, recall@{tuning.k} against exact search {tuning.recall:.3f}")
    if store is not None:
        from serving.cluster.rollout import let_serve
        from serving.triton.refreshed import install_refresh, retire_refreshes
        from serving.triton.served import Served

        number = install_refresh(out, store)
        # Older refreshes go only once this one serves in their place.
        if promote:
            loaded = let_serve(store, Served(number), namespace)
            for old in retire_refreshes(store, loaded):
                print(f"removed version {old} from {store}")
        print(f"version {number} is in {store}{', and serves' if promote else ''}")
