"""A day raises one retraining, however often and by however many it is asked for."""

import threading
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


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The runs that were started; nothing is trained here."""
    runs: list[list[str]] = []
    monkeypatch.setattr(retraining, "start", lambda command, data: runs.append([*command, str(data)]))
    return runs


def test_of_many_at_once_one_trains(place: ExperimentFolder, started: list[list[str]], tmp_path: Path) -> None:
    together, outcomes = threading.Barrier(6), []

    def ask(number: int) -> None:
        together.wait()
        try:
            outcomes.append(retraining.retrain(place, LAST, tmp_path / str(number), tmp_path / "out", ["run"], BOUNDS))
        except UserError:  # another one has the note in hand
            outcomes.append(False)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]
    assert len(started) == 1
    assert not retraining.retrain(place, LAST, tmp_path / "again", tmp_path / "out", ["run"], BOUNDS)
    assert len(started) == 1


def test_a_run_that_failed_does_not_count(
    place: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(command: list[str], data: Path) -> None:
        raise UserError("the retraining run failed: no room")

    monkeypatch.setattr(retraining, "start", fails)
    for _ in range(2):
        with pytest.raises(UserError, match="no room"):
            retraining.retrain(place, LAST, tmp_path / "data", tmp_path / "out", ["run"], BOUNDS)
    assert not (tmp_path / "out" / retraining.RAISED).exists()
