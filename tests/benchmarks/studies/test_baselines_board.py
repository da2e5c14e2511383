"""The leaderboard of baselines over a tiny world: tuned with one budget, kept, added to."""

import json
from pathlib import Path

import pytest

from benchmarks import result
from benchmarks.studies import baselines
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.errors import UserError

NAMES = ["popularity", "itemknn"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "FOLDER", tmp_path / "results")
    return tmp_path


def board(folder: Path) -> dict:
    return json.loads((folder / "results" / "baselines_tiny.json").read_text())


def test_a_board_has_a_row_a_model_and_goes_on_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baselines.main(["tiny"], seeds=2, count=3, models=NAMES)
    first = board(folder)
    assert list(first) == ["data", "protocol", "budget", "models"]
    assert list(first["models"]) == NAMES
    row = first["models"]["itemknn"]
    assert set(row["recall_at_500"]) == {"mean", "least", "most"}
    assert {"l2_relevance", "coverage", "seeds", "command", "commit"} <= set(row)
    # The best of its trials, of which each model has as many at the most.
    assert row["recall_at_500"]["mean"] == pytest.approx(
        max(trial["recall_at_500"] for trial in row["trials"]), abs=1e-5
    )
    assert [len(one["trials"]) for one in first["models"].values()] == [1, 3]

    # Finished trials are read: nothing is fitted again.
    def fitted(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(baselines, "fit_baseline", fitted)
    baselines.main(["tiny"], seeds=2, count=3, models=["itemknn"])
    assert board(folder)["models"]["itemknn"]["trials"] == row["trials"]
    assert set(board(folder)["models"]) == set(NAMES)


def test_rows_of_another_budget_go(folder: Path) -> None:
    baselines.main(["tiny"], seeds=1, count=1, models=["popularity"])
    baselines.main(["tiny"], seeds=1, count=2, models=["itemknn"])
    assert list(board(folder)["models"]) == ["itemknn"]


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no such baseline"):
        baselines.main(["tiny"], models=["magic"])
