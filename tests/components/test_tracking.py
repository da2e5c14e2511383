"""MLflow: what a run leaves there, and when the alias `champion` moves."""

import json
from pathlib import Path

import pytest
import yaml

from components import tracking
from mtmh.config import Config

MODEL = "mtmh-tiny"
# MLflow 3.17 asks SQLAlchemy 2.1 for things that SQLAlchemy calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def run_directory(place: Path, passed: bool, weights: str = "w") -> Path:
    """A run directory as far as tracking reads it."""
    (place / "retriever").mkdir(parents=True)
    (place / "retriever" / "manifest.json").write_text(json.dumps({"weights": weights}))
    (place / "report.html").write_text("<html></html>")
    (place / "config.yaml").write_text(yaml.safe_dump(Config().model_dump(mode="json")))
    metrics = {
        "data": {"path": "/data/tiny", "fingerprint": "f" * 64, "rows": 10},
        "models": {"merged_alpha_50": {"recall_at_500": 0.25, "l2_relevance": None}},
        "gate": {"passed": passed, "rules": []},
        "seconds": {"train": 1.5},
        "peak_memory_mb": {"train": 300},
        "code_version": "c0de",
        "seed": 0,
    }
    (place / "metrics.json").write_text(json.dumps(metrics))
    return place


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow's tables take seconds to make: once is enough."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking.connect(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def uri(tmp_path: Path, empty_database: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def register(run: Path, uri: str, tmp_path: Path) -> str:
    return tracking.register_run(run, MODEL, uri, str(tmp_path / "mlartifacts"))


def test_a_run_is_logged_whole(tmp_path: Path, uri: str) -> None:
    version = register(run_directory(tmp_path / "run-1", passed=True), uri, tmp_path)
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


def test_only_a_passed_gate_moves_the_champion(tmp_path: Path, uri: str) -> None:
    assert tracking.champion_location(uri, MODEL) == ""
    register(run_directory(tmp_path / "bad-0", passed=False, weights="0"), uri, tmp_path)
    assert tracking.champion_location(uri, MODEL) == ""
    first = register(run_directory(tmp_path / "good", passed=True, weights="1"), uri, tmp_path)
    champion = tracking.champion_location(uri, MODEL)
    assert json.loads((Path(champion) / "manifest.json").read_text()) == {"weights": "1"}
    second = register(run_directory(tmp_path / "bad", passed=False, weights="2"), uri, tmp_path)
    assert second != first
    assert tracking.champion_location(uri, MODEL) == champion
    client = tracking.connect(uri)
    assert client.get_model_version(MODEL, second).tags["gate"] == "rejected"
    register(run_directory(tmp_path / "better", passed=True, weights="3"), uri, tmp_path)
    assert tracking.champion_location(uri, MODEL) != champion


def test_the_same_retriever_keeps_its_version(tmp_path: Path, uri: str) -> None:
    first = register(run_directory(tmp_path / "a", passed=True), uri, tmp_path)
    assert register(run_directory(tmp_path / "b", passed=True), uri, tmp_path) == first


def test_a_champion_whose_files_are_gone_is_left_out(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(run_directory(tmp_path / "a", passed=True), uri, tmp_path)
    (tmp_path / "mlartifacts").rename(tmp_path / "elsewhere")
    assert tracking.champion_location(uri, MODEL) == ""
    assert "gone" in capsys.readouterr().out


def test_no_database_no_champion(tmp_path: Path) -> None:
    assert tracking.champion_location(f"sqlite:///{tmp_path / 'mlflow.db'}", MODEL) == ""
    assert list(tmp_path.iterdir()) == []


def test_names_become_legal() -> None:
    assert tracking.legal("merged/recall@10 %") == "merged/recall_10 _"
    assert tracking.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}, ".") == [("a.b", 1), ("a.c.d", 2), ("e", 3)]
