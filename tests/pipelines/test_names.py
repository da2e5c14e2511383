"""Data sets whose folders have one name do not share a champion."""

import json
from pathlib import Path

import pytest

from components.registry import champion_location
from mtmh.config import Config
from pipelines.arguments import of_run
from pipelines.local import tracking_uri
from pipelines.names import explain_name, name_in, record
from pipelines.runs_folder import serving


def test_the_first_has_the_plain_name_and_the_second_its_own(tmp_path: Path) -> None:
    a, b, runs = str(tmp_path / "a" / "data"), str(tmp_path / "b" / "data"), tmp_path / "runs"
    assert name_in(runs, a, "fa") == "data"
    record(runs, "data", a, "fa")
    other = name_in(runs, b, "fb")
    assert other.startswith("data-")
    record(runs, other, b, "fb")
    assert (name_in(runs, a, "grown"), name_in(runs, b, "grown")) == ("data", other)
    assert serving(runs, a) != serving(runs, b)
    line = explain_name(runs, other, b)
    assert line is not None
    assert a in line
    assert explain_name(runs, "data", a) is None


def test_data_that_moved_is_the_same_data(tmp_path: Path) -> None:
    record(tmp_path, "data", str(tmp_path / "a" / "data"), "same")
    assert name_in(tmp_path, str(tmp_path / "b" / "data"), "same") == "data"


def test_a_chosen_name_is_shared_on_purpose(tmp_path: Path) -> None:
    grown = str(tmp_path / "retraining" / "data")
    record(tmp_path, "data", str(tmp_path / "data"), "old")
    record(tmp_path, "data", grown, "new")
    assert name_in(tmp_path, grown) == name_in(tmp_path, str(tmp_path / "data")) == "data"


def test_runs_from_before_the_names_know_whose_the_champion_is(tmp_path: Path) -> None:
    retriever = tmp_path / "runs" / "one" / "retriever"
    retriever.mkdir(parents=True)
    metrics = {"data": {"path": str(tmp_path / "a" / "data"), "fingerprint": "fa"}}
    (retriever.parent / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "runs" / "champions").mkdir()
    (tmp_path / "runs" / "champions" / "data").symlink_to(retriever)
    assert name_in(tmp_path / "runs", str(tmp_path / "a" / "data")) == "data"
    assert name_in(tmp_path / "runs", str(tmp_path / "b" / "data")) != "data"


def test_model_champion_and_store_go_by_the_name(tmp_path: Path) -> None:
    record(tmp_path, "synthetic", str(tmp_path / "a" / "synthetic"), "other")
    arguments = of_run("synthetic", Config(), "", tmp_path, tmp_path)
    assert len({Path(str(arguments[key])).name for key in ("champion_link", "store")}) == 1
    assert (
        arguments["model_name"] == f"mtmh-{Path(str(arguments['store'])).name}" != "mtmh-synthetic"
    )
    assert (
        of_run("synthetic", Config(), "", tmp_path, tmp_path, "mine")["model_name"] == "mtmh-mine"
    )


@pytest.mark.parametrize("mark", ["%20", "?", "#", ":", "'", '"', " ", "ü"])
def test_the_database_lies_in_the_folder_of_any_name(tmp_path: Path, mark: str) -> None:
    from sqlalchemy import create_engine

    runs = tmp_path / f"runs{mark}here"
    runs.mkdir()
    engine = create_engine(tracking_uri(runs))
    engine.connect().close()
    engine.dispose()
    assert (runs / "mlflow.db").exists()


def test_no_database_is_no_champion(tmp_path: Path) -> None:
    assert champion_location(tracking_uri(tmp_path / "r%20?"), "mtmh-data") == ""
