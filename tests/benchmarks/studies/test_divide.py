"""The study of Divide and Conquer over a tiny world, resumed from what is there."""

import json
from pathlib import Path

import pytest

from benchmarks import result
from benchmarks.studies import divide
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world


def test_the_study_measures_every_model_and_reads_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "FOLDER", tmp_path / "results")
    small = ["train.epochs=1"]
    divide.main(["tiny"], seeds=1, clusters=3, sequence=False, settings=small)
    first = json.loads((tmp_path / "results" / "divide_tiny.json").read_text())["details"]
    assert first["clusters"] == 3
    # Three models, each over the whole catalog and at every exponent.
    assert len(first["models"]) == 3 * (1 + len(divide.EXPONENTS))
    for row in first["models"].values():
        assert set(row) == set(divide.METRICS)
        assert 0 <= row["recall_at_20"]["mean"] <= row["recall_at_500"]["mean"] <= 1
    capsys.readouterr()
    divide.main(["tiny"], seeds=1, clusters=3, sequence=False, settings=small)
    assert "prompted_head" not in capsys.readouterr().out  # nothing was trained again
    again = json.loads((tmp_path / "results" / "divide_tiny.json").read_text())["details"]
    assert again["models"] == first["models"]
    # The sequential form is added to what is there.
    divide.main(["tiny"], seeds=1, clusters=3, settings=small)
    assert "prompted_head" not in capsys.readouterr().out
    whole = json.loads((tmp_path / "results" / "divide_tiny.json").read_text())["details"]
    assert len(whole["models"]) == 6 * (1 + len(divide.EXPONENTS))
    assert whole["models"].items() >= first["models"].items()
