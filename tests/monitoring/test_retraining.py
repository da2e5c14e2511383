"""A day raises one retraining, however often and by however many it is asked for."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from helpers.small_place import DAYS, FIRST

from monitoring import retraining
from monitoring.evidently.bounds import Bounds
from mtmh.errors import UserError
from mtmh.experiment.folder import ExperimentFolder

LAST = FIRST + timedelta(days=DAYS - 1)
BOUNDS = Bounds.model_validate({"bounds": {}, "retrain": []})


def retrain(place: ExperimentFolder, data: Path, out: Path, start: Callable[[Path], None]) -> bool:
    return retraining.retrain(place, LAST, data, out, ["run"], BOUNDS, start)


def test_of_many_at_once_one_trains(place: ExperimentFolder, tmp_path: Path) -> None:
    together, outcomes = threading.Barrier(6), []
    started: list[Path] = []  # the data of the runs; nothing is trained here

    def ask(number: int) -> None:
        together.wait()
        try:
            outcomes.append(
                retrain(place, tmp_path / str(number), tmp_path / "out", started.append)
            )
        except UserError:  # another one has the note in hand
            outcomes.append(False)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]
    (data,) = started
    assert {path.name for path in data.iterdir()} == {"interactions.parquet", "items.parquet"}
    assert not retrain(place, tmp_path / "again", tmp_path / "out", started.append)
    assert started == [data]


def test_a_run_that_failed_does_not_count(place: ExperimentFolder, tmp_path: Path) -> None:
    def fails(data: Path) -> None:
        raise UserError("the retraining run failed: no room")

    for _ in range(2):
        with pytest.raises(UserError, match="no room"):
            retrain(place, tmp_path / "data", tmp_path / "out", fails)
    assert not (tmp_path / "out" / retraining.RAISED).exists()
