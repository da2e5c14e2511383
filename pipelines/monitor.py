"""The pipeline `monitor`: one day of a watched place, and a retraining run of the main pipeline if it asks for it."""

import json
import sys
from collections.abc import Sequence
from datetime import date
from operator import eq
from pathlib import Path
from typing import TextIO

from kfp import dsl

from components.monitor import monitor
from components.retrain import retrain
from mtmh.config import ClusterSettings
from mtmh.errors import UserError
from pipelines.local import execute
from pipelines.names import name_in
from pipelines.runs_folder import owned

NAME = "mtmh-monitor"
STEPS = ("monitor", "retrain")


def define(cluster: ClusterSettings | None = None) -> dsl.base_component.BaseComponent:
    """Return the pipeline; `cluster` mounts its volume, where place and monitor lie. `day` empty is yesterday."""

    @dsl.pipeline(name=NAME, description="A day of a watched place; retraining when drift or freshness bounds break")
    def mtmh_monitor(place: str, out: str, data: str, command: str, day: str = "", bounds: str = "") -> None:
        watched = {"place": place, "out": out, "day": day}
        looked = monitor(**watched, bounds=bounds).set_caching_options(False)
        with dsl.If(eq(looked.output, True), name="broken"):
            again = retrain(**watched, data=data, command=command, bounds=bounds).set_caching_options(False)
        if cluster is not None:
            from pipelines.cluster import mount_on

            mount_on(looked, cluster)
            mount_on(again, cluster)

    return mtmh_monitor


def run(
    place: Path,
    out: Path,
    day: date,
    bounds: Path | None,
    runs: Path,
    settings: Sequence[str] = (),
    screen: TextIO | None = None,
) -> bool:
    """Run the pipeline here for one day; True when it raised a retraining run, which then is in `runs`.

    `settings` are those of the retraining run, over its configuration.
    """
    from monitoring.retraining import RAISED

    out, runs = out.resolve(), runs.resolve()
    before = _modified(out / RAISED)
    name = name_in(runs, _source(place))
    command = ["run", "--runs", str(runs), "--name", name, *as_options(settings)]
    told = arguments(place.resolve(), out, name, command)
    told |= {"day": str(day), "bounds": str(bounds.resolve()) if bounds else ""}
    with owned(out):
        execute(define, STEPS, told, out / ".pipeline", screen or sys.stdout, offline=True)
    return _modified(out / RAISED) != before


def as_options(settings: Sequence[str]) -> list[str]:
    """Settings as the command line takes them."""
    return [word for setting in settings for word in ("--set", setting)]


def arguments(place: Path, out: Path, name: str, command: list[str]) -> dict[str, str | int]:
    """The pipeline's arguments but for day and bounds; `command` is what raises a retraining run (components/retrain).

    What is trained on is written to a folder of the `name` of the data that the serving run was trained on, so that its
    champion, its settings and its place in the store are those of that data.
    """
    data = out / "retraining" / name
    return {"place": str(place), "out": str(out), "data": str(data), "command": json.dumps(command)}


def compile_monitor(out: Path, cluster: ClusterSettings) -> None:
    """Write the pipeline to `out` (.yaml): the same bytes for the same code and settings."""
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"{out}: the compiled pipeline is a YAML file; write, say, {out.with_suffix('.yaml')}.")
    from kfp.compiler import Compiler

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(define(cluster), str(out))


def schedule(host: str, told: dict[str, str | int], cron: str, cluster: ClusterSettings) -> str:
    """Let a Kubeflow Pipelines server run the pipeline again and again; returns the id of the recurring run.

    `told` are its arguments, with paths as the steps see them; `cron` has six fields, seconds first. Raises UserError
    when the configuration names no volume, or no server answers.
    """
    import tempfile

    from kfp import Client
    from urllib3.exceptions import HTTPError

    if not cluster.volume_claim:
        raise UserError("the steps need a volume: write --set cluster.volume_claim=NAME (a PersistentVolumeClaim).")
    try:
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "monitor.yaml"
            compile_monitor(package, cluster)
            client = Client(host=host)
            made = client.create_recurring_run(
                client.create_experiment(NAME).experiment_id,
                NAME,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=str(package),
                params=told,
                enable_caching=False,
                service_account=cluster.service_account or None,
            )
    except HTTPError as error:
        raise UserError(f"no Kubeflow Pipelines server answers at {host}: {error}") from None
    return str(made.recurring_run_id)


def _source(place: Path) -> str:
    """The data that the place's run was trained on."""
    from mtmh.experiment.folder import open_experiment

    run = open_experiment(place).experiment.run
    if run is None or not (run / "metrics.json").is_file():
        raise UserError(f"{place}: experiment.json names no run directory ({run}), so nobody knows what to train on.")
    return str(json.loads((run / "metrics.json").read_text())["data"]["path"])


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
