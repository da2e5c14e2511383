"""What of a folder of runs nobody needs any more: the work of `mtmh clean`."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from mtmh.errors import UserError
from mtmh.experiment.folder import open_experiment
from mtmh.exposures.compact import TABLES
from mtmh.exposures.log import LOCK
from pipelines.runs_folder import owned


@dataclass(frozen=True)
class Removal:
    """A file or folder that may go."""

    path: Path
    what: str
    size: int  # bytes of its files

    @classmethod
    def of(cls, path: Path, what: str) -> "Removal":
        """With the size that it has now."""
        files = [path] if path.is_file() else path.rglob("*")
        return cls(path, what, sum(file.stat().st_size for file in files if file.is_file()))

    def carry_out(self) -> None:
        """Remove it; of a folder, its name first, so that nobody takes half of one for a whole."""
        if self.path.is_file():
            self.path.unlink()
            return
        draft = self.path.with_name(f".{self.path.name}.unfinished")
        self.path.rename(draft)
        shutil.rmtree(draft)


def clean(
    runs: Path, scratch: Path, keep: int, older_than: timedelta, dry_run: bool, now: datetime
) -> list[Removal]:
    """Remove what is older than `older_than` and not needed; returns it, with `dry_run` untouched.

    That is, of the folder `runs` and the steps' folder `scratch`:

    - run directories but the newest `keep`, those that serve, and those that an experiment folder
      names
    - checkpoints of trainings that were cut short (one that ends removes its own), and shards of
      the content cache of which no run has used a vector since
    - rejected.parquet of runs that stopped; packages that were not finished
    - days of a watched folder's log before its experiment begins; segments are never touched
    - folders of routers that are gone, once nothing of their log is left in them

    Raises UserError when there is no such folder, or a run is going on in it.
    """
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder. Give the folder of the runs, such as runs.")
    before = now - older_than
    removals = [
        *_runs(runs, keep, before),
        *_files(scratch / "checkpoints", ("*/*.pt", "*/*.unfinished"), before, "a checkpoint"),
        *_files(scratch / "content", ("**/*.npz",), before, "vectors that no run used"),
        *_files(runs, ("rejected-*.parquet",), before, "rejected rows"),
        *_files(runs, ("serving/*/.package-*",), before, "a package that was not finished"),
        *_days(runs, before.date()),
        *_gone_routers(runs, before),
    ]
    if not dry_run:
        with owned(runs):
            for removal in removals:
                removal.carry_out()
    return removals


def _runs(runs: Path, keep: int, before: datetime) -> Iterator[Removal]:
    needed = {link.resolve() for link in [runs / "latest", *runs.glob("champions/*")]}
    for folder in _experiments(runs):
        named = json.loads((folder / "experiment.json").read_text())
        needed |= {Path(named[key]).resolve() for key in ("run", "retriever") if named.get(key)}
    finished = [file.parent for file in runs.glob("*/metrics.json") if not file.parent.is_symlink()]
    finished.sort(key=lambda run: run.stat().st_mtime, reverse=True)
    for run in finished[keep:]:
        is_needed = not needed.isdisjoint({run.resolve(), (run / "retriever").resolve()})
        if not run.name.startswith(".") and not is_needed and _is_older(run, before):
            yield Removal.of(run, "a run")


def _files(
    folder: Path, patterns: tuple[str, ...], before: datetime, what: str
) -> Iterator[Removal]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if _is_older(path, before):
                yield Removal.of(path, what)


def _days(runs: Path, before: date) -> Iterator[Removal]:
    """Days that no page looks at any more. The batches' lists of segments stay, so that none of
    these is ever compacted twice.
    """
    for folder in _experiments(runs):
        first_day = open_experiment(folder).experiment.first_day
        for table in TABLES:
            for path in sorted((folder / "tables" / table).glob("day=*")):
                day = date.fromisoformat(path.name.removeprefix("day="))
                if day < min(before, first_day):
                    yield Removal.of(path, f"{table} before {first_day}")


def _gone_routers(runs: Path, before: datetime) -> Iterator[Removal]:
    """A router holds its folder's lock while it lives, and its segments lie there until they are
    compacted.
    """
    for path in sorted(runs.glob(f"serving/*/log/*/{LOCK}")):
        if [file.name for file in path.parent.iterdir()] != [LOCK]:
            continue
        if not _is_older(path.parent, before):
            continue
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Removal.of(path.parent, "the empty log of a router that is gone")
        except BlockingIOError:
            continue  # its router lives
        finally:
            os.close(handle)


def _experiments(runs: Path) -> list[Path]:
    """The watched folders: `runs`/watched on a laptop, one a data set below it on a cluster."""
    files = [*runs.glob("*/experiment.json"), *runs.glob("watched/*/experiment.json")]
    return sorted(file.parent for file in files)


def _is_older(path: Path, before: datetime) -> bool:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
