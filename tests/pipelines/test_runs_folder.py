"""The folder `runs/`: one run at a time, no leftovers, links that move at once."""

import json
from pathlib import Path

import pytest

from mtmh.errors import UserError
from pipelines.runs_folder import keep_rejected, owned, point, serving, sweep


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(UserError, match="another run"), owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


def test_sweep_keeps_what_the_cache_knows_and_nothing_else(tmp_path: Path) -> None:
    cache = tmp_path / ".pipeline" / ".kfp_cache"
    cache.mkdir(parents=True)
    for step in ("prepare", "train"):
        (tmp_path / ".pipeline" / "mtmh-1" / step / "out").mkdir(parents=True)
    (tmp_path / ".pipeline" / "mtmh-2" / "train" / "out").mkdir(parents=True)
    (tmp_path / ".a-run.unfinished" / "retriever").mkdir(parents=True)
    uri = str(tmp_path / ".pipeline" / "mtmh-1" / "prepare" / "out")
    (cache / "a.json").write_text(json.dumps({"out": {"uri": uri}, "Output": "text"}))
    sweep(tmp_path)
    assert [str(path) for path in (tmp_path / ".pipeline").glob("mtmh-*/*/*")] == [uri]
    assert not (tmp_path / ".pipeline" / "mtmh-2").exists()
    assert not (tmp_path / ".a-run.unfinished").exists()


def test_a_link_is_relative_and_can_move(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        point(tmp_path / "latest", tmp_path / name)
        assert (tmp_path / "latest").readlink() == Path(name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "latest"]


def test_rejected_rows_outlive_the_step_that_refused_them(tmp_path: Path) -> None:
    path = tmp_path / ".pipeline" / "mtmh-1" / "prepare" / "prepared" / "rejected.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"rows")
    message = keep_rejected(tmp_path, "id", f"too many; all of them: {path}.")
    sweep_target = tmp_path / "rejected-id.parquet"
    assert message == f"too many; all of them: {sweep_target}."
    assert sweep_target.read_bytes() == b"rows"


def test_what_is_served_is_the_latest_runs_data_unless_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make run"):
        serving(tmp_path)
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "metrics.json").write_text(
        json.dumps({"data": {"path": "/data/my shop"}})
    )
    assert serving(tmp_path) == tmp_path / "serving" / "my-shop"
    assert serving(tmp_path, "synthetic") == tmp_path / "serving" / "synthetic"
