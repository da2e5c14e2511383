"""Evidently is imported once, before the tests: its import warns about NumPy's names, and warnings
are errors here.
"""

import os
import warnings
from pathlib import Path

os.environ["DO_NOT_TRACK"] = "true"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import evidently.ui.service.app
    import evidently.ui.workspace  # noqa: F401

import pytest
from helpers.small_place import DAYS, write_place

from monitoring.evidently.bounds import read_bounds
from monitoring.evidently.monitor import Monitored, monitor
from mtmh.experiment.folder import ExperimentFolder, open_experiment

SHIFTED = DAYS - 1  # the last day shows and likes the first topic alone


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """Four days, the last of them another world; tests only read it."""
    return open_experiment(
        write_place(tmp_path_factory.mktemp("watched") / "place", shifted=[SHIFTED])
    )


@pytest.fixture(scope="session")
def out(place: ExperimentFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The monitor's folder over it."""
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="session")
def monitored(place: ExperimentFolder, out: Path) -> Monitored:
    """All days of it, with the project's own bounds."""
    return monitor(place, out, read_bounds())
