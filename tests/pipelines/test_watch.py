"""The pipeline `monitor`: valid IR, a day within its bounds, and a day that raises a retraining run."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from google.protobuf import json_format
from helpers.small_place import DAYS, FIRST, ITEMS, USERS, write_place
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from mtmh.config import ClusterSettings
from mtmh.errors import UserError
from pipelines import monitor
from pipelines.monitor import STEPS, compile_monitor

TINY = [
    "train={epochs: 1, batch_size: 128, uniform_negatives: 64, embedding_dim: 8, hidden: [16], out_dim: 16}",
    "retrieval={k_ann: 50, pool: 40}",
    "pairs.window=10",
    "prerank.use=false",
    "content.concepts.train=false",
    "gate={bootstrap: 100, baseline_recall_ratio: 0, relevance_ratio: 0, min_coverage: 0}",
]
CRON = "0 30 0 * * *"


def compiled(path: Path, cluster: ClusterSettings) -> list[dict[str, Any]]:
    compile_monitor(path, cluster)
    return list(yaml.safe_load_all(path.read_text()))


def test_the_ir_is_valid_and_retrains_only_when_the_monitor_says_so(tmp_path: Path) -> None:
    (document,) = compiled(tmp_path / "monitor.yaml", ClusterSettings())
    spec = json_format.ParseDict(document, PipelineSpec())  # an unknown field would raise
    tasks = {
        name: task
        for dag in (spec.root.dag, *(part.dag for part in spec.components.values()))
        for name, task in dag.tasks.items()
    }
    assert set(STEPS) < set(tasks)
    assert not any(tasks[step].caching_options.enable_cache for step in STEPS)
    assert tasks["condition-1"].trigger_policy.condition.endswith("pipelinechannel--monitor-Output'] == true")
    assert set(spec.components[tasks["condition-1"].component_ref.name].dag.tasks) == {"retrain"}


def test_on_a_cluster_both_steps_mount_the_volume(tmp_path: Path) -> None:
    _, platform = compiled(tmp_path / "monitor.yaml", ClusterSettings(volume_claim="mtmh"))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{step}" for step in STEPS}
    assert {step["pvcMount"][0]["mountPath"] for step in executors.values()} == {"/mnt/mtmh"}


def test_the_same_code_compiles_to_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "mtmh_cli", "watch", "compile", str(tmp_path / f"{seed}.yaml")]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
    assert (tmp_path / "1.yaml").read_bytes() == (tmp_path / "2.yaml").read_bytes()


@pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning")  # kfp says so each time
def test_a_schedule_needs_a_volume_and_a_server(tmp_path: Path) -> None:
    told = monitor.arguments(Path("/mnt/mtmh/watched"), Path("/mnt/mtmh/monitoring"), "yelp", ["submit", "http://kfp"])
    assert told["data"] == "/mnt/mtmh/monitoring/retraining/yelp"
    with pytest.raises(UserError, match=r"cluster\.volume_claim"):
        monitor.schedule("http://127.0.0.1:9", told, CRON, ClusterSettings())
    with pytest.raises(UserError, match="no Kubeflow Pipelines server answers"):
        monitor.schedule("http://127.0.0.1:9", told, CRON, ClusterSettings(volume_claim="mtmh"))


def test_a_day_within_its_bounds_retrains_nothing_and_one_outside_does(tmp_path: Path) -> None:
    place = write_place(tmp_path / "place", shifted=[DAYS - 1])
    run = place / "run"
    (run / "metrics.json").write_text(json.dumps({"data": {"path": "/somewhere/small"}}))
    bounds = tmp_path / "bounds.yaml"
    bounds.write_text("bounds: {embeddings: {'*': {max: 0.03}}}\nretrain: [embeddings]\n")
    out, runs, last = tmp_path / "monitoring", tmp_path / "runs", FIRST + timedelta(days=DAYS - 1)

    screen = StringIO()
    assert not monitor.run(place, out, FIRST, bounds, runs, TINY, screen)
    assert "all within their bounds" in screen.getvalue()
    assert not runs.exists()

    screen = StringIO()
    assert monitor.run(place, out, last, bounds, runs, TINY, screen)
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
