"""`mtmh clean`: what is old and needed by nobody goes, and nothing else."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import mtmh
from helpers.small_place import DAYS, FIRST, write_place

from mtmh.content.cache import encode_cached, write_shard
from mtmh.exposures.log import LogWriter
from pipelines.runs_folder import owned, point

OLD = time.time() - 100 * 86_400


def age(path: Path) -> None:
    """Make it a hundred days old, with all that is in it."""
    for each in [*path.rglob("*"), path]:
        os.utime(each, (OLD, OLD), follow_symlinks=False)


def make_run(runs: Path, name: str, when: float = OLD) -> Path:
    run = runs / name
    (run / "retriever").mkdir(parents=True)
    (run / "metrics.json").write_text("{}" + " " * 2**20)
    age(run)
    os.utime(run, (when, when))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Six old runs, of which a serves and b was watched, and a fresh one."""
    runs = tmp_path / "runs"
    for number, name in enumerate("abcdef"):
        make_run(runs, name, OLD + number)
    make_run(runs, "fresh", time.time())
    (runs / "champions").mkdir()
    point(runs / "champions" / "tiny", runs / "a" / "retriever")
    point(runs / "latest", runs / "fresh")
    return runs


def names(runs: Path) -> list[str]:
    return sorted(file.parent.name for file in runs.glob("[a-z]*/metrics.json"))


def test_a_dry_run_says_what_a_clean_then_removes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["clean", str(runs), "--keep", "3"]
    assert mtmh(monkeypatch, *command, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "would go: 3 files and folders, 3.0 MiB" in printed
    assert "1.0 MiB  a run:" in printed
    assert names(runs) == ["a", "b", "c", "d", "e", "f", "fresh", "latest"]
    assert mtmh(monkeypatch, *command) == 0
    assert "removed: 3" in capsys.readouterr().out
    # The newest three (latest is a link to one of them), and the one that serves.
    assert names(runs) == ["a", "e", "f", "fresh", "latest"]
    assert mtmh(monkeypatch, "clean", str(runs / "nowhere")) == 2
    assert "no such folder" in capsys.readouterr().err


def test_nothing_goes_while_a_run_goes_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with owned(runs):
        assert mtmh(monkeypatch, "clean", str(runs), "--keep", "0") == 2
    assert "another run is going on" in capsys.readouterr().err
    assert len(names(runs)) == 8


def test_a_watched_folder_keeps_its_run_and_the_days_of_its_experiment(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_place(runs / "watched" / "tiny")
    experiment = json.loads((place / "experiment.json").read_text())
    second = FIRST + timedelta(days=1)
    experiment |= {"first_day": str(second), "days": DAYS - 1, "run": str(runs / "b")}
    (place / "experiment.json").write_text(json.dumps(experiment))
    assert mtmh(monkeypatch, "clean", str(runs), "--keep", "0") == 0
    assert names(runs) == ["a", "b", "fresh", "latest"]
    days = {path.name for path in (place / "tables").glob("*/day=*")}
    assert days == {f"day={FIRST + timedelta(days=day)}" for day in range(1, DAYS)}


def test_scratch_goes_where_nothing_was_used_of_it(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = runs / ".scratch"
    cache = scratch / "content"
    encode_cached(["kept"], "model", cache, lambda: lambda texts: np.ones((len(texts), 2)))
    write_shard(cache, ["gone"], np.ones((1, 2), np.float32))
    old, young = (scratch / "checkpoints" / "code" / name for name in ("old.pt", "young.pt"))
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_text("")
    (runs / "rejected-1.parquet").write_text("")
    (runs / "serving" / "tiny" / ".package-x").mkdir(parents=True)
    for path in (scratch, runs / "rejected-1.parquet", runs / "serving"):
        age(path)
    young.touch()

    def encode_nothing() -> None:
        raise AssertionError("it is in the cache")

    encode_cached(["kept"], "model", cache, encode_nothing)
    assert mtmh(monkeypatch, "clean", str(runs)) == 0
    assert [file.name for file in scratch.rglob("*.pt")] == ["young.pt"]
    (shard,) = cache.glob("*.npz")
    with np.load(shard) as kept:
        assert kept["keys"].tolist() != ["gone"]
    assert not (runs / "rejected-1.parquet").exists()
    assert list((runs / "serving" / "tiny").iterdir()) == []


def test_the_log_is_never_touched_but_for_the_empty_folder_of_a_router_that_is_gone(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = runs / "serving" / "tiny" / "log"

    async def write(name: str, records: int) -> LogWriter:
        writer = LogWriter(log / name)
        record = {"kind": "engagement", "timestamp": datetime.now(UTC), "user_id": "u"}
        await writer.append([{**record, "item_id": "i", "event": "e"}] * records)
        return writer

    async def live() -> None:
        living = await write("living", 0)
        await (await write("gone", 0)).close()
        await (await write("unread", 1)).close()
        age(log)
        assert mtmh(monkeypatch, "clean", str(runs)) == 0
        await living.close()

    asyncio.run(live())
    assert sorted(path.name for path in log.iterdir()) == ["living", "unread"]
    assert [path.suffix for path in (log / "unread").iterdir() if path.name != "lock"] == [
        ".segment"
    ]
