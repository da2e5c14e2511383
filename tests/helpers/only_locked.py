"""Python with what one lock names, and nothing else that is installed: as in the image made of it.

Code for `python -c` starts with `only(LOCK)`; with `PYTHONPATH` it finds this module and the
checkout.
"""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PYTHONPATH = f"{ROOT}:{ROOT / 'tests'}"
ANYWHERE = DistributionFinder.Context()


class LockedFinder:
    """Finds modules and distributions as Python does, but none whose distribution is not among
    `names`."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        own, others = set(), set()
        for distribution in PathFinder.find_distributions(ANYWHERE):
            rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
            files = {str(distribution.locate_file(row[0])) for row in rows}
            (own if self.has(distribution) else others).update(files)
        self.foreign = others - own

    def has(self, distribution: Distribution) -> bool:
        return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower() in self.names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        return None if spec is not None and spec.origin in self.foreign else spec

    def find_distributions(
        self, context: DistributionFinder.Context = ANYWHERE
    ) -> Iterator[Distribution]:
        return filter(self.has, PathFinder.find_distributions(context))


def only(lock: Path) -> None:
    """From now on this process has, of all that is installed, what `lock` names."""
    names = set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", lock.read_text(), re.MULTILINE))
    # In the same place: an editable installation, which comes behind it, may be another checkout.
    sys.meta_path[sys.meta_path.index(PathFinder)] = LockedFinder(names)
