"""The rooms of the house and who imports whom. `python -m tools.arrows [FOLDER]`; ends with 1 where
an arrow is wrong.

An arrow is an import, wherever it stands in a file, or the name of a module in a list of words that
a process is started with ([.., "-m", "pipelines.main"]). Rooms are the top folders, and those of
mtmh; mtmh's own modules are its floor, which every room may use.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tools.texture import python_files

# top to bottom
HOUSE = (
    "mtmh_cli",
    "pipelines",
    "components",
    "monitoring",
    "simulation",
    "serving",
    "feature_repo",
)
LIBRARY = (
    "report",
    "baselines",
    "evaluation",
    "retrieval",
    "training",
    "kernels",
    "model",
    "content",
    "data",
)
# the rooms of mtmh that may use these alone
BESIDE = {"experiment": ("exposures", "data"), "exposures": ()}
APART = (("monitoring", "simulation"),)  # on one floor: neither uses the other
# These may use every room; tests alone use them.
OUTSIDE = ("benchmarks", "k8s", "tools", "tests")
FLOOR = "mtmh"


@dataclass(frozen=True)
class Arrow:
    """A line of code that uses another room; `above` and `below` are the rooms' names, those of
    mtmh as mtmh.ROOM."""

    above: str
    below: str
    file: Path
    line: int


def arrows(root: Path, files: list[Path]) -> Iterator[Arrow]:
    """Every arrow between two rooms in `files`, which lie below `root`."""
    for file in files:
        path = file.relative_to(root)
        above = _room(root, ".".join(path.with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text())):
            for module in _modules(node):
                below = _room(root, module)
                if below and above and below != above:
                    yield Arrow(above, below, path, getattr(node, "lineno", 0))


def allowed(above: str, below: str) -> bool:
    """Whether a file of the room `above` may use the room `below`."""
    if above in OUTSIDE or below in OUTSIDE:
        return above in OUTSIDE and (below not in OUTSIDE or above == "tests")
    if below == FLOOR or above == FLOOR:
        return below == FLOOR
    if not above.startswith(f"{FLOOR}."):
        lower = HOUSE[HOUSE.index(above) + 1 :]
        return below.startswith(f"{FLOOR}.") or (below in lower and (above, below) not in APART)
    upper, lower_room = above.removeprefix(f"{FLOOR}."), below.removeprefix(f"{FLOOR}.")
    if upper in BESIDE:
        return lower_room in BESIDE[upper]
    return lower_room in LIBRARY[LIBRARY.index(upper) + 1 :]


def _room(root: Path, module: str) -> str:
    """The room that `module` lies in; empty for a library's."""
    top, *rest = module.split(".")
    if top == FLOOR:
        return f"{FLOOR}.{rest[0]}" if rest and (root / FLOOR / rest[0]).is_dir() else FLOOR
    return top if top in (*HOUSE, *OUTSIDE) else ""


def _modules(node: ast.AST) -> list[str]:
    """The modules that a piece of code imports, or starts by `-m`."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{name.name}" for name in node.names]
    if isinstance(node, ast.List | ast.Tuple):
        words = [word.value if isinstance(word, ast.Constant) else None for word in node.elts]
        return [str(after) for flag, after in pairwise(words) if flag == "-m" and after]
    return []


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    drawn = list(arrows(folder, python_files(folder)))
    for above in sorted({arrow.above for arrow in drawn}):
        below = sorted({arrow.below for arrow in drawn if arrow.above == above})
        print(f"{above:16} -> {', '.join(below)}")
    wrong = [arrow for arrow in drawn if not allowed(arrow.above, arrow.below)]
    for arrow in wrong:
        print(f"{arrow.file}:{arrow.line}: {arrow.above} -> {arrow.below} is not allowed")
    sys.exit(bool(wrong))
