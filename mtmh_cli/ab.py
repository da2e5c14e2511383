"""The A/B report of a watched place."""

from pathlib import Path
from typing import Annotated

import typer

from mtmh_cli.application import app


@app.command()
def ab(
    place: Annotated[Path, typer.Argument(help="A watched place, such as runs/watched.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default="PLACE/ab")] = None,
) -> None:
    """Compare a place's two arms: ab.html (verdict first), ab.json (every effect), verdict.json (all the rest)."""
    from monitoring.ab_page.page import write
    from mtmh.display import visible
    from mtmh.experiment.comparison import compare, read_tables
    from mtmh.experiment.folder import open_experiment
    from pipelines.arguments import code_version

    opened = open_experiment(place)
    comparison = compare(opened, read_tables(opened))
    folder = out or place / "ab"
    write(comparison, folder, code_version())
    verdict = comparison.verdict
    print("\n  ".join(map(visible, [f"{verdict.title}. {verdict.lead}", *verdict.reasons])))
    if opened.experiment.simulated:
        print("The users are simulated.")
    print(f"report: {folder / 'ab.html'}")
