"""mtmh simulate over a run of a small synthetic world: what it writes, what it replaces, what it
refuses.
"""

import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest
from helpers.small_version import write_run, write_world
from typer.testing import CliRunner

from mtmh.errors import UserError
from mtmh.experiment.folder import open_experiment
from mtmh_cli import app
from simulation.run import SimulationPlan, read_simulated_arms, run_simulation

DAY = SimulationPlan(days=2, users=150)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its version takes new items in by their creators."""
    root = tmp_path_factory.mktemp("run")
    return write_run(write_world(root / "world", length=False), root / "run")


def test_it_writes_a_position_of_arms_and_days(run: Path, tmp_path: Path) -> None:
    progress = CliRunner().invoke(app, [
        "simulate", "--run", str(run), "--out", str(tmp_path / "watched"), "--days", "2", "--users", "150",
        "--arms", "engagement-only,mtmh,more:30",
    ])  # fmt: skip
    assert progress.exit_code == 0, progress.output
    assert "served/s" in progress.output
    assert "simulated users" in progress.output
    place = open_experiment(tmp_path / "watched")
    assert place.experiment.simulated
    assert {arm.name: arm.alpha for arm in place.experiment.arms} == {
        "engagement-only": 100,
        "mtmh": 50,
        "more": 30,
    }
    assert place.experiment.run == run.resolve()
    assert (place.experiment.retriever / "manifest.json").is_file()
    exposures = place.logged().exposures.to_pyarrow()
    assert set(exposures["arm"].to_pylist()) == {"engagement-only", "mtmh", "more"}
    only = exposures.filter(pc.equal(exposures["arm"], "engagement-only"))
    assert pc.mean(pc.equal(only["head"], "engagement")).as_py() > 0.99
    halved = exposures.filter(pc.equal(exposures["arm"], "mtmh"))
    assert 0.4 < pc.mean(pc.equal(halved["head"], "engagement")).as_py() < 0.6
    by_day = exposures.group_by(["day", "model_version"]).aggregate([]).sort_by("day")
    assert by_day["model_version"].to_pylist() == [
        "in-process-0",
        "in-process-1",
    ]  # a refresh before the second day
    assert not list(tmp_path.glob(".*"))


def test_a_simulation_is_replaced_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "watched"
    run_simulation(run, DAY, out)
    before = (out / "experiment.json").read_text()
    run_simulation(run, SimulationPlan(days=1, users=150, seed=3), out)
    assert (
        json.loads((out / "experiment.json").read_text())["seed"] == 3 != json.loads(before)["seed"]
    )
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(UserError, match=r"photos is there, and not what a simulation wrote"):
        run_simulation(run, DAY, other)
    real = json.loads(before) | {"simulated": False}
    (out / "experiment.json").write_text(json.dumps(real))
    with pytest.raises(UserError, match="not what a simulation wrote"):
        run_simulation(run, DAY, out)


def test_a_run_of_other_data_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run. Give one over the synthetic world"):
        run_simulation(tmp_path, DAY, tmp_path / "watched")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    manifest = json.loads((other / "retriever" / "manifest.json").read_text())
    for created_from, message in (
        (
            {"path": "/data/mind"},
            r"is of /data/mind: users are simulated on the synthetic world alone",
        ),
        ({"fingerprint": "0"}, "another law"),
    ):
        progress = {**manifest, "created_from": manifest["created_from"] | created_from}
        (other / "retriever" / "manifest.json").write_text(json.dumps(progress))
        with pytest.raises(UserError, match=message):
            run_simulation(other, DAY, tmp_path / "watched")


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("mtmh", "give two or more"),
        ("mtmh,other", r"arm 'other': name its alpha, as in other:30"),
        ("mtmh,other:lots", r"alpha 'lots' is no number"),
        ("a:50,a:50", "name of its own"),
        ("a:50,b:150", "less than or equal to 100"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(arms: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_simulated_arms(arms)


def test_a_store_without_its_router_is_refused(run: Path, tmp_path: Path) -> None:
    progress = CliRunner().invoke(app, ["simulate", "--run", str(run), "--store", str(tmp_path)])
    assert isinstance(progress.exception, UserError)
    assert "name it with --router" in str(progress.exception)
