"""Compacts copies of LOG, TRIALS/0, TRIALS/1, ..: the n-th is killed before its n-th call that
changes the disk.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from mtmh.exposures.compact import compact


def dying(work: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return work(*arguments, **named)

    return call


def main(log: Path, trials: Path) -> None:
    for step in count():
        trial = trials / f"{step:03d}"
        shutil.copytree(log, trial / "log")
        child = os.fork()
        if child == 0:
            left = [step]
            for place, name in (
                (os, "fsync"),
                (os, "truncate"),
                (Path, "rename"),
                (Path, "unlink"),
                (Path, "mkdir"),
            ):
                setattr(place, name, dying(getattr(place, name), left))
            compact(trial / "log", trial / "out", batch_bytes=4000)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))  # it got through


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
