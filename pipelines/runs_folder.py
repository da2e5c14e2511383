"""The folder `runs/`: whose it is while a run goes on, what of the steps' outputs is kept, its
links."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtmh.errors import UserError
from pipelines.names import name_in


@contextmanager
def owned(runs: Path) -> Iterator[None]:
    """Hold `runs` for one run; a second one at the same time is a UserError."""
    (runs / ".pipeline").mkdir(parents=True, exist_ok=True)
    with (runs / ".pipeline" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another run is going on in {runs}: wait for it, or write --runs ANOTHER_FOLDER."
            ) from None
        yield


def sweep(runs: Path) -> None:
    """Remove what unfinished steps left behind: outputs that the cache does not know, drafts of run
    directories."""
    pipeline = runs / ".pipeline"
    cached = set()
    for entry in (pipeline / ".kfp_cache").glob("*.json"):
        for output in json.loads(entry.read_text()).values():
            if isinstance(output, dict) and "uri" in output:
                cached.add(Path(output["uri"]).parent)
    for run in pipeline.glob("*/"):
        if run.name.startswith("."):
            continue
        for task in run.glob("*/"):
            if task not in cached:
                shutil.rmtree(task)
        if not any(run.iterdir()):
            run.rmdir()
    for draft in runs.glob(".*.unfinished*"):
        shutil.rmtree(draft)


def keep_rejected(runs: Path, run_id: str, message: str) -> str:
    """Move the rejected rows that `message` speaks of out of the sweep's way; return the message
    with the new path."""
    for path in (runs / ".pipeline").glob("*/prepare/prepared/rejected.parquet"):
        if str(path) in message:
            rejected = runs / f"rejected-{run_id}.parquet"
            path.replace(rejected)
            message = message.replace(str(path), str(rejected))
    return message


def serving(runs: Path, source: str | None = None) -> Path:
    """The store that the champion of the data at `source` is served from; of the latest run's data
    when it is None.

    Raises UserError when there is no run yet.
    """
    if source is None:
        metrics = runs / "latest" / "metrics.json"
        if not metrics.is_file():
            raise UserError(
                f"{runs} has no run to serve: make one with `make run`"
                " (mtmh run), or name its folder."
            )
        source = str(json.loads(metrics.read_text())["data"]["path"])
    return runs / "serving" / name_in(runs, source)


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, atomically."""
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.symlink_to(os.path.relpath(target, link.parent))
    draft.replace(link)
