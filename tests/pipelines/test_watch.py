"""The pipeline `monitor`: valid IR, a day within its bounds, and a day that raises a retraining
run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from google.protobuf import json_format
from helpers.kubeflow_api import Kubeflow, serve_kubeflow
from helpers.small_place import DAYS, FIRST, ITEMS, USERS, write_place
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from components.connection import Connection
from components.retrain import retrain
from components.submission import Submission
from monitoring.retraining import RAISED
from mtmh.config import ClusterSettings, Config, load_config
from mtmh.errors import UserError
from pipelines import local, main, monitor
from pipelines.arguments import of_config
from pipelines.kubeflow import compile_pipeline
from pipelines.monitor import STEPS, define

TINY = [
    "train={epochs: 1, batch_size: 128, uniform_negatives: 64, embedding_dim: 8, hidden: [16], "
    "out_dim: 16}",
    "retrieval={k_ann: 50, pool: 40}",
    "pairs.window=10",
    "prerank.use=false",
    "content.concepts.train=false",
    "gate={bootstrap: 100, baseline_recall_ratio: 0, relevance_ratio: 0, min_coverage: 0}",
]
CRON = "0 30 0 * * *"
LAST = FIRST + timedelta(days=DAYS - 1)
LOCAL = ["cluster.volume_claim=mtmh", "cluster.local_images=true"]
ON_VOLUME = load_config(settings=LOCAL)


def compiled(path: Path, cluster: ClusterSettings) -> list[dict[str, Any]]:
    compile_pipeline(define(cluster), path)
    return list(yaml.safe_load_all(path.read_text()))


def test_the_ir_is_valid_and_retrains_only_when_the_monitor_says_so(tmp_path: Path) -> None:
    document, _ = compiled(tmp_path / "monitor.yaml", ClusterSettings())
    spec = json_format.ParseDict(document, PipelineSpec())  # an unknown field would raise
    tasks = {
        name: task
        for dag in (spec.root.dag, *(part.dag for part in spec.components.values()))
        for name, task in dag.tasks.items()
    }
    assert set(STEPS) < set(tasks)
    assert not any(tasks[step].caching_options.enable_cache for step in STEPS)
    assert tasks["condition-1"].trigger_policy.condition.endswith(
        "pipelinechannel--monitor-Output'] == true"
    )
    assert set(spec.components[tasks["condition-1"].component_ref.name].dag.tasks) == {"retrain"}


def test_on_a_cluster_both_steps_mount_the_volume(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path / "monitor.yaml", ClusterSettings(volume_claim="mtmh"))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{step}" for step in STEPS}
    assert {step["pvcMount"][0]["mountPath"] for step in executors.values()} == {"/mnt/mtmh"}


def test_the_same_code_compiles_to_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        command = [
            sys.executable,
            "-m",
            "mtmh_cli",
            "watch",
            "compile",
            str(tmp_path / f"{seed}.yaml"),
        ]
        subprocess.run(
            command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True
        )
    assert (tmp_path / "1.yaml").read_bytes() == (tmp_path / "2.yaml").read_bytes()


def watched_on(volume: Path) -> dict[str, str | int]:
    return monitor.arguments(
        volume / "watched", volume / "monitoring", "small", ["submit", "http://kfp"]
    )


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    with serve_kubeflow() as served:
        yield served


def test_a_schedule_needs_a_volume_and_a_server() -> None:
    watched, nobody = watched_on(Path("/mnt/mtmh")), Connection("http://127.0.0.1:9")
    assert watched["data"] == "/mnt/mtmh/monitoring/retraining/small"
    with pytest.raises(UserError, match=r"cluster\.volume_claim"):
        monitor.schedule(nobody, watched, CRON, Config(), "http://mlflow")
    with pytest.raises(UserError, match="no Kubeflow Pipelines server answers"):
        monitor.schedule(nobody, watched, CRON, ON_VOLUME, "http://mlflow")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A watched place whose last day is another world."""
    place = write_place(tmp_path / "watched", shifted=[DAYS - 1])
    (place / "run" / "metrics.json").write_text(json.dumps({"data": {"path": "/somewhere/small"}}))
    return place


@pytest.fixture
def bounds(tmp_path: Path) -> Path:
    """Bounds that only that day breaks."""
    bounds = tmp_path / "bounds.yaml"
    bounds.write_text("bounds: {embeddings: {'*': {max: 0.03}}}\nretrain: [embeddings]\n")
    return bounds


def test_a_day_within_its_bounds_retrains_nothing_and_one_outside_does(
    place: Path, bounds: Path, tmp_path: Path
) -> None:
    out, runs = tmp_path / "monitoring", tmp_path / "runs"

    screen = StringIO()
    assert not monitor.run(place, out, FIRST, bounds, runs, TINY, screen)
    assert "all within their bounds" in screen.getvalue()
    assert not runs.exists()

    screen = StringIO()
    assert monitor.run(place, out, LAST, bounds, runs, TINY, screen)
    assert "Drift of embeddings, engagement: engaged is" in screen.getvalue()
    assert f"mtmh run --runs {runs}" in screen.getvalue()
    metrics = json.loads((runs / "latest" / "metrics.json").read_text())
    data = out / "retraining" / "small"
    assert metrics["data"]["path"] == str(data)
    assert (metrics["data"]["users"], metrics["data"]["items"]) == (USERS, ITEMS)
    trained = pq.read_table(data / "interactions.parquet")
    logged = pq.read_table(place / "tables" / "engagements").num_rows
    assert trained.num_rows == pq.read_metadata(place / "history.parquet").num_rows + logged
    assert set(trained["arm"].to_pylist()) == {None, "engagement-only", "mtmh"}

    screen = StringIO()
    assert not monitor.run(place, out, LAST, bounds, runs, TINY, screen)
    assert "a retraining run was raised not long ago: not again" in screen.getvalue()


def test_a_retraining_that_fails_is_told_and_may_be_raised_again(
    place: Path, bounds: Path, tmp_path: Path
) -> None:
    out, runs = tmp_path / "monitoring", tmp_path / "runs"
    for _ in range(2):
        with pytest.raises(UserError, match=r"the retraining run failed: .*train\.epochs"):
            monitor.run(place, out, LAST, bounds, runs, ["train.epochs=-1"], StringIO())
        assert not (out / RAISED).exists()


# What a step is allotted on a cluster, the local runner says, has no effect here.
@pytest.mark.filterwarnings("ignore:Task '.*'. settings:UserWarning")
def test_a_scheduled_day_submits_the_pipeline_that_was_uploaded_with_the_schedule(
    place: Path, bounds: Path, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    config = load_config(settings=[*TINY, *LOCAL, f"cluster.volume={tmp_path}"])
    connection = Connection(kubeflow.url)
    for _ in range(2):
        number = monitor.schedule(connection, watched_on(tmp_path), CRON, config, "http://mlflow")

    # One schedule, the last. The server has both pipelines whole, the main one with the settings as
    # its defaults, and the monitor's parameters name it.
    (recurring,) = kubeflow.recurring.values()
    assert (recurring["recurring_run_id"], recurring["display_name"]) == (
        number,
        "mtmh-monitor-small",
    )
    assert recurring["trigger"]["cron_schedule"]["cron"] == CRON
    names = [pipeline["display_name"] for pipeline in kubeflow.pipelines.values()]
    assert names == ["mtmh-small", "mtmh-monitor-small"]
    parameters = recurring["runtime_config"]["parameters"]
    submission = Submission(**json.loads(parameters["submission"]))
    documents = kubeflow.versions[submission.version_id]
    compile_pipeline(main.define(config.cluster), tmp_path / "same.yaml")
    same = next(yaml.safe_load_all((tmp_path / "same.yaml").read_text()))
    defaults = {
        name: parameter.get("defaultValue")
        for name, parameter in documents[0]["root"]["inputDefinitions"]["parameters"].items()
    }
    assert documents[0]["deploymentSpec"] == same["deploymentSpec"]
    assert defaults.items() >= of_config(config).items()
    assert defaults["store"] == str(tmp_path / "runs" / "serving" / "small")
    assert [name for name, value in defaults.items() if value is None] == ["source"]

    # Both steps as the cluster runs them, in processes of their own.
    day = {**parameters, "day": str(LAST), "bounds": str(bounds)}
    root, screen = tmp_path / "kfp", StringIO()
    root.mkdir()
    local.execute(lambda: define(ClusterSettings()), STEPS, day, root, screen, offline=True)
    assert f"run run 1 on {kubeflow.url}" in screen.getvalue()
    (started,) = kubeflow.runs
    data = tmp_path / "monitoring" / "retraining" / "small"
    assert started["pipeline_version_reference"] == {
        "pipeline_id": submission.pipeline_id,
        "pipeline_version_id": submission.version_id,
    }
    assert kubeflow.experiments[started["experiment_id"]]["display_name"] == "mtmh"
    arguments = started["runtime_config"]["parameters"]
    assert arguments == {"source": str(data)}  # the run itself says which data and code it has


def test_a_server_that_takes_no_run_is_an_error_and_the_note_is_put_back(
    place: Path, bounds: Path, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    kubeflow.versions["version"], kubeflow.experiments["experiment"] = [], {}
    kubeflow.failing = 400
    submission = Submission(
        kubeflow.url, "pipeline", "version", "experiment", "", Config().model_dump(mode="json")
    )
    day = {
        **watched_on(tmp_path),
        "day": str(LAST),
        "bounds": str(bounds),
        "submission": submission.to_json(),
    }
    with pytest.raises(UserError, match=r"answers 400 Bad Request: not today"):
        retrain.python_func(**day)
    assert not (tmp_path / "monitoring" / RAISED).exists()
