"""MLflow: what a run leaves there."""

from pathlib import Path

import pytest
from helpers.run_directory import write_run

from components import tracking
from mtmh.errors import UserError

MODEL = "mtmh-tiny"
# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated; its pyfunc warns of own
# types.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),
]


def register(run: Path, uri: str, tmp_path: Path) -> str:
    return tracking.register_run(run, MODEL, uri, str(tmp_path / "mlartifacts"))


def test_a_run_is_logged_whole(tmp_path: Path, uri: str) -> None:
    version = register(write_run(tmp_path / "run-1", passed=True), uri, tmp_path)
    client = tracking.connect(uri)
    logged = client.get_run(client.get_model_version(MODEL, version).run_id)
    assert logged.info.run_name == "run-1"
    assert logged.info.status == "FINISHED"
    assert logged.data.params["train.w_r"] == "0.5"
    assert logged.data.metrics == {
        "merged_alpha_50/recall_at_500": 0.25,
        "seconds/train": 1.5,
        "peak_memory_mb/train": 300.0,
    }
    assert logged.data.tags["data_fingerprint"] == "f" * 64
    assert logged.inputs.dataset_inputs[0].dataset.name == "tiny"
    kept = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert kept == {"config.yaml", "metrics.json", "report.html", "retriever"}
    assert client.get_experiment(logged.info.experiment_id).name == "mtmh"


def test_a_run_that_kubeflow_opened_is_joined_and_left_open(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tracking.connect(uri)
    experiment = client.create_experiment("kubeflow", artifact_location=str(tmp_path / "kubeflow"))
    opened = client.create_run(experiment, run_name="register-7").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    version = register(write_run(tmp_path / "run-1", passed=True), uri, tmp_path)
    assert client.get_model_version(MODEL, version).run_id == opened
    logged = client.get_run(opened)
    assert logged.info.status == "RUNNING"  # Kubeflow ends what it opened
    assert logged.data.metrics["seconds/train"] == 1.5
    assert client.get_experiment_by_name("mtmh") is None


def test_a_run_of_another_mlflow_is_explained(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(UserError, match="MLFLOW_RUN_ID"):
        register(write_run(tmp_path / "run-1", passed=True), uri, tmp_path)


def test_names_become_legal() -> None:
    assert tracking.legal("merged/recall@10 %") == "merged/recall_10 _"
    assert tracking.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}, ".") == [
        ("a.b", 1),
        ("a.c.d", 2),
        ("e", 3),
    ]
