"""The real pipeline on this machine, by Kubeflow's local runner: a process a step, cached, resumable."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mtmh.config import Config
from mtmh.disk import explain_full_disk, full_disk_explained
from mtmh.errors import UserError
from pipelines.arguments import of_run
from pipelines.console import Narrator, narrated
from pipelines.names import explain_name, record
from pipelines.runs_folder import keep_rejected, owned, point, sweep

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent


class StepError(RuntimeError):
    """A step ended with an error that is not the user's; the message holds what it printed last."""


def run(source: str, config: Config, runs: Path, screen: TextIO | None = None, name: str | None = None) -> Path:
    """Run the pipeline over the data at `source` (a path, or "synthetic") and return the run directory.

    `name` is what the data set goes by in `runs`; by default its folder's, unless that stands for other data there.

    Finished steps of earlier runs come from the cache. Raises UserError for what the user can mend (bad data, bad
    settings) and StepError for anything else; what an unfinished step wrote is removed.
    """
    screen = screen or sys.stdout
    runs = runs.resolve()
    source = source if source == "synthetic" else str(Path(source).resolve())
    arguments = of_run(source, config, tracking_uri(runs), runs, runs / ".scratch", name)
    arguments["artifacts"] = (runs / "mlartifacts").as_uri()
    model_name = str(arguments["model_name"]).removeprefix("mtmh-")
    if line := explain_name(runs, model_name, source):
        print(line, file=screen, flush=True)
    run_id, champion = str(arguments["run_id"]), Path(str(arguments["place"]))
    with full_disk_explained(runs), owned(runs):
        sweep(runs)
        try:
            own = config.content.backbone == "packaged" and config.content.visual_backbone is None
            from pipelines.main import STEPS, define

            execute(define, STEPS, arguments, runs / ".pipeline", screen, offline=own)
        except UserError as error:
            raise UserError(keep_rejected(runs, run_id, str(error))) from None
        finally:
            sweep(runs)
        finished = runs / run_id
        point(runs / "latest", finished)
        record(runs, model_name, source, str(arguments["fingerprint"]))
    retriever = finished / "retriever"
    passed = json.loads((finished / "metrics.json").read_text())["gate"]["passed"]
    if passed and champion.resolve() != retriever:
        raise StepError(f"the gate passed, but {champion} does not lead to {retriever}: deploy did not run")
    return finished


def tracking_uri(runs: Path) -> str:
    """MLflow's database in the folder `runs`."""
    from sqlalchemy import URL

    database = str(runs.resolve() / "mlflow.db")
    return URL.create("sqlite", database=database).render_as_string(hide_password=False)


def execute(
    define: Callable[[], "BaseComponent"],
    steps: Sequence[str],
    arguments: dict[str, str | int],
    root: Path,
    screen: TextIO,
    offline: bool,
) -> None:
    """Run a pipeline here, a process a step, its artifacts and its log (last.log) in the folder `root`.

    Raises UserError for what the user can mend, and StepError for anything else.
    """
    from kfp import local

    log = root / "last.log"
    with _environment(offline), narrated(steps, screen, log) as narrator:
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root), enable_caching=True)
        try:
            define()(**arguments)
        except RuntimeError as error:
            raise _explain(error, narrator, log) from None


def _explain(error: RuntimeError, narrator: Narrator, log: Path) -> Exception:
    if narrator.error is not None:
        return UserError(narrator.error)
    if message := explain_full_disk(f"{error}\n" + "\n".join(narrator.traceback), log.parent):
        return UserError(message)
    step = f"step {narrator.running}" if narrator.running else "the pipeline"
    told = "\n".join(narrator.traceback[-15:]) or f"{error} Without a word: perhaps killed for lack of memory."
    return StepError(f"{step} failed; the whole log: {log}\n{told}")


@contextmanager
def _environment(offline: bool) -> Iterator[None]:
    """Surroundings of the steps' processes: lines at once, temporary files that go when the run ends, no network."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mtmh-") as temporary:
        os.environ.update(PYTHONUNBUFFERED="1", TMPDIR=temporary, DO_NOT_TRACK="true", MLFLOW_DISABLE_TELEMETRY="true")
        if offline:
            os.environ.update(HF_HUB_OFFLINE="1")
        previous, tempfile.tempdir = tempfile.tempdir, None
        try:
            yield
        finally:
            tempfile.tempdir = previous
            os.environ.clear()
            os.environ.update(before)
