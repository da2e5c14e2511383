"""The run directory: complete, whole or not at all, and cut off from the stages it was made of."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers.small_run import write_run, write_stages

from mtmh.config import Config, load_config
from mtmh.errors import UserError
from mtmh.evaluation import run_directory
from mtmh.stages import NOT_MADE, STAGES, StageFolders


def test_the_layout_is_the_house_plan(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "metrics.json", "candidates.parquet", "rejected.parquet", "curves.parquet", "retriever",
    }  # fmt: skip
    assert {path.name for path in (run / "retriever").iterdir()} == {
        "items.parquet",
        "manifest.json",
    }
    assert load_config(run / "config.yaml") == Config()
    assert yaml.safe_load((run / "config.yaml").read_text())["retrieval"]["alpha"] == 50


def test_metrics_hold_every_block(tmp_path: Path) -> None:
    metrics = json.loads((write_run(tmp_path) / "metrics.json").read_text())
    assert {
        "data",
        "models",
        "sample",
        "gate",
        "definitions",
        "seconds",
        "peak_memory_mb",
        "code_version",
        "seed",
    } == set(metrics)
    data = metrics["data"]
    assert (data["path"], data["rows"], data["pairs"], data["test_users"]) == (
        "data/here",
        12345,
        777,
        40,
    )
    assert metrics["gate"] == json.loads((tmp_path / "stages/gate/verdict.json").read_text())
    assert metrics["seconds"]["train"] == 7.5
    assert list(metrics["peak_memory_mb"]) == [stage.name for stage in STAGES]
    assert (metrics["code_version"], metrics["seed"]) == ("code-1", 3)
    named = set(metrics["definitions"]) | {f"recall_at_{k}" for k in (5, 20, 100, 500)}
    assert set(metrics["models"]["itemknn"]) <= named


def test_a_run_without_rejected_rows_has_no_such_file(tmp_path: Path) -> None:
    stages = write_stages(tmp_path)
    (stages.prepared / "rejected.parquet").unlink()
    run_directory.write(tmp_path / "runs" / "a", stages, Config(), "code-1", 3, "data")
    assert not (tmp_path / "runs" / "a" / "rejected.parquet").exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    stages = write_stages(tmp_path)
    (stages.model / "curves.parquet").unlink()
    with pytest.raises(FileNotFoundError):
        run_directory.write(tmp_path / "runs" / "a", stages, Config(), "code-1", 3, "data")
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_existing_run_is_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    before = (run / "metrics.json").read_bytes()
    stages = StageFolders(**{stage.artifact: tmp_path / "stages" / stage.name for stage in STAGES})
    with pytest.raises(UserError, match="exists already"):
        run_directory.write(run, stages, Config(), "code-2", 4, "data")
    assert (run / "metrics.json").read_bytes() == before
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_a_stage_that_runs_again_does_not_reach_into_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "stages/index/manifest.json").write_text("overwritten in place")
    assert json.loads((run / "retriever/manifest.json").read_text()) == {"files": {}}


def test_a_missing_stage_is_named(tmp_path: Path) -> None:
    stages = replace(write_stages(tmp_path), verdict=NOT_MADE, retriever=NOT_MADE)
    with pytest.raises(ValueError, match="index, gate"):
        run_directory.write(tmp_path / "runs" / "a", stages, Config(), "code-1", 3, "data")


def test_figures_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    stages = write_stages(tmp_path)
    evaluation = stages.result / "evaluation.json"
    evaluation.write_text(evaluation.read_text().replace("0.4024", "NaN"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_directory.write(tmp_path / "runs" / "a", stages, Config(), "code-1", 3, "data")
    assert list((tmp_path / "runs").iterdir()) == []
