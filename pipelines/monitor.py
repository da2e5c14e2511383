"""The pipeline `monitor`: one day of a watched place, and a retraining run of the main pipeline if
it asks for it."""

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import date
from operator import eq
from pathlib import Path
from typing import TextIO

from kfp import dsl

from components.connection import Connection
from components.monitor import monitor
from components.registry import fetch_run
from components.retrain import retrain
from mtmh.config import ClusterSettings, Config, load_config
from mtmh.errors import UserError
from pipelines import local, main
from pipelines.arguments import layers, on_cluster
from pipelines.kubeflow import (
    equip,
    reach_kubeflow,
    repeat,
    server,
    uploaded,
)
from pipelines.names import name_in
from pipelines.runs_folder import owned
from serving.triton import store as packages

NAME = "mtmh-monitor"
RUN_FILES = ("config.yaml", "metrics.json", "candidates.parquet", "retriever")  # that it reads
STEPS = ("monitor", "retrain")


def define(cluster: ClusterSettings) -> dsl.base_component.BaseComponent:
    """Return the pipeline of a cluster, where place and monitor lie on its volume. `day` empty is
    yesterday."""

    @dsl.pipeline(
        name=NAME,
        description="A day of a watched place; retraining when drift or freshness bounds break",
    )
    def mtmh_monitor(
        place: str,
        out: str,
        data: str,
        command: str,
        submission: str,
        day: str = "",
        bounds: str = "",
    ) -> None:
        monitor_task = monitor(place=place, out=out, day=day, bounds=bounds)
        # The log grows while a day lasts: an earlier answer is none of today's.
        monitor_task.set_caching_options(False)
        with dsl.If(eq(monitor_task.output, True), name="broken"):
            retrain_task = retrain(
                place=place,
                out=out,
                day=day,
                data=data,
                command=command,
                submission=submission,
                bounds=bounds,
            )
            retrain_task.set_caching_options(False)
        equip(monitor_task, cluster)
        equip(retrain_task, cluster)
        reach_kubeflow(retrain_task, cluster)

    return mtmh_monitor


@dsl.pipeline(
    name=NAME, description="A day of a watched place; true when it raises a retraining run"
)
def monitor_here(place: str, out: str, day: str, bounds: str) -> bool:
    """The step monitor alone: what it raises here is a run of this process."""
    return monitor(place=place, out=out, day=day, bounds=bounds).set_caching_options(False).output


def run(
    folder: Path,
    out: Path,
    day: date,
    bounds: Path | None,
    runs: Path,
    settings: Sequence[str] = (),
    screen: TextIO | None = None,
) -> bool:
    """Monitor a day here; True when it raised a retraining run, which then is in `runs`.

    `settings` are those of the retraining run, over its configuration. Raises UserError with what
    the run said when it did not succeed.
    """
    from monitoring.evidently.bounds import DEFAULT, read_bounds
    from monitoring.retraining import retrain as raise_once
    from mtmh.experiment.folder import open_experiment

    folder, out, runs = folder.resolve(), out.resolve(), runs.resolve()
    screen = screen or sys.stdout
    limits = bounds.resolve() if bounds else DEFAULT

    # The retraining run goes by the name of the data that the run which serves was trained on.
    experiment = open_experiment(folder)
    served = experiment.experiment.run
    if served is None or not (served / "metrics.json").is_file():
        raise UserError(
            f"{folder}: experiment.json names no run directory ({served}),"
            " so nobody knows what to train on."
        )
    name = name_in(runs, json.loads((served / "metrics.json").read_text())["data"]["path"])
    watched: dict[str, str | int] = {
        "place": str(folder),
        "out": str(out),
        "day": str(day),
        "bounds": str(limits),
    }

    def start(data: Path) -> None:
        try:
            config = load_config(*layers(str(data), "laptop", None), settings=list(settings))
            local.run(str(data), config, runs, screen, name)
        except (UserError, local.StepError) as error:
            raise UserError(f"the retraining run failed: {error}") from None

    with owned(out), redirect_stdout(screen):
        day_task = local.execute(
            lambda: monitor_here, ("monitor",), watched, out / ".pipeline", screen, offline=True
        )
        if not day_task.output:
            return False
        command = ["run", "--runs", str(runs), "--name", name, *as_options(settings)]
        data = out / "retraining" / name
        raised = raise_once(experiment, day, data, out, command, read_bounds(limits), start)
        # Another process may have raised it since the step looked.
        if not raised:
            print("a retraining run was raised not long ago: not again")
    return raised


def served_run(store: Path, tracking_uri: str, out: Path) -> Path:
    """The run directory of the version that serves from `store`, fetched from MLflow to `out` where
    it is not there yet; what was there of other versions goes. Raises UserError without MLflow.
    """
    if not tracking_uri:
        raise UserError("name the run that serves with --run, or MLflow with --tracking-uri.")
    version = str(packages.trained(packages.champion(store)))
    run = out / f"run-{version}"
    if not run.is_dir():
        draft = out / f".run-{version}"
        shutil.rmtree(draft, ignore_errors=True)
        fetch_run(tracking_uri, f"mtmh-{store.name}", version, draft, RUN_FILES)
        draft.rename(run)
    for other in set(out.glob("run-*")) - {run}:
        shutil.rmtree(other)
    return run


def as_options(settings: Sequence[str]) -> list[str]:
    """Settings as the command line takes them."""
    return [word for setting in settings for word in ("--set", setting)]


def whole(config: Config) -> list[str]:
    """`config` as settings: they make it again from whatever files lie below them."""
    sections = config.model_dump(mode="json")
    return [f"{name}={json.dumps(section)}" for name, section in sections.items()]


def arguments(folder: Path, out: Path, name: str, command: list[str]) -> dict[str, str | int]:
    """The pipeline's arguments but for day, bounds and submission; `command` are the words of
    `mtmh` that do the same.

    What is trained on is written to a folder of the `name` of the data that the serving run was
    trained on, so that its champion, its settings and its folder in the store are those of that
    data.
    """
    data = out / "retraining" / name
    return {
        "place": str(folder),
        "out": str(out),
        "data": str(data),
        "command": json.dumps(command),
    }


def schedule(
    connection: Connection,
    watched: dict[str, str | int],
    cron: str,
    config: Config,
    tracking_uri: str,
    name: str = "",
    inside: str = "",
) -> str:
    """Let a Kubeflow Pipelines server run the pipeline again and again, in place of the schedule of
    the same `name` (by default by the data); returns the id of the recurring run.

    `watched` are its `arguments`, with paths as the steps see them; `cron` has six fields, seconds
    first; `inside` is the server's URL as the steps reach it, where that is another. The main
    pipeline is compiled with `config` and uploaded first: that is what a day that asks for
    retraining submits. Raises UserError as `pipelines.kubeflow.server` does.
    """
    data, host = Path(str(watched["data"])).name, inside or connection.host
    defaults = on_cluster(config, tracking_uri, data)
    locations = (str(watched["place"]), str(watched["out"]))
    with server(connection, config.cluster, locations) as client:
        pipeline = main.define(config.cluster)
        called = str(defaults["model_name"])
        retraining = uploaded(client, pipeline, called, host, config, defaults)
        days = uploaded(client, define(config.cluster), f"{NAME}-{data}", host, config)
        parameters = {**watched, "submission": retraining.to_json()}
        return repeat(client, days, name or f"{NAME}-{data}", cron, parameters)
