"""How the benchmarks' pictures look: as the report's, with series that differ in more than their
color."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from mtmh.report.plots import COLORS, INK, QUIET, STYLE

__all__ = ["COLORS", "INK", "LINES", "QUIET", "save", "styled"]

LINES = (  # color, marker and dash of the first, second and third series
    (COLORS["engagement"], "o", "-"),
    (COLORS["relevance"], "s", "--"),
    (COLORS["merged"], "^", "-."),
)
styled = rc_context(STYLE)  # a decorator of what draws


def save(figure: Figure, path: Path) -> None:
    """Write the picture and say where."""
    with rc_context(STYLE):
        figure.savefig(path, dpi=160)
    print(f"wrote {path}")
