"""Python with what one lock names, and nothing else that is installed: as in the image made of it.

`python -c` code starts with `only(LOCK)`; `environment` finds this module and the checkout.
"""

import csv
import os
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


class LockedFinder:
    """Finds modules as Python does, but none of the files in `foreign`."""

    def __init__(self, foreign: set[str]) -> None:
        self.foreign = foreign

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        return None if spec is not None and spec.origin in self.foreign else spec


def only(lock: Path) -> None:
    """From now on this process imports no file of a distribution that `lock` does not name."""
    locked = set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", lock.read_text(), re.MULTILINE))
    foreign: set[str] = set()
    own: set[str] = set()
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        files = {str(distribution.locate_file(row[0])) for row in rows}
        (own if name in locked else foreign).update(files)
    # In the same place: an editable installation, which comes behind it, may be another checkout.
    sys.meta_path[sys.meta_path.index(PathFinder)] = LockedFinder(foreign - own)
