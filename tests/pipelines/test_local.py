"""The real pipeline on a tiny world: pass, cache, rejection, resumption after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.command_line import mtmh

from feature_repo.feast_import import import_feast
from mtmh.config import Config, load_config
from pipelines import local
from pipelines.main import NEVER_CACHED, STEPS
from serving.triton.store import champion, verify, versions

TINY = [
    "data.synthetic={users: 150, items: 120, days: 20}",
    "train={epochs: 1, batch_size: 128, uniform_negatives: 64, embedding_dim: 8, hidden: [16], "
    "out_dim: 16}",
    "retrieval={k_ann: 50, pool: 40}",
    "pairs.window=10",  # whatever the overlay of the synthetic world says
    "gate.bootstrap=100",
]
# Whether so small a world's heads beat the baselines is not what is looked at here.
LENIENT = ["gate.baseline_recall_ratio=0", "gate.relevance_ratio=0", "gate.min_coverage=0"]
IMPOSSIBLE = ["gate.baseline_recall_ratio=1000", "gate.relevance_ratio=0", "gate.min_coverage=0"]


@dataclass
class Ran:
    """A finished run: its directory, its metrics, and what was shown."""

    path: Path
    metrics: dict[str, Any]
    shown: str

    def cached(self) -> set[str]:
        return {step for step in STEPS if f"{step}: from the cache" in self.shown}


def run(runs: Path, config: Config) -> Ran:
    screen = StringIO()
    path = local.run("synthetic", config, runs, screen)
    return Ran(path, json.loads((path / "metrics.json").read_text()), screen.getvalue())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(runs: Path) -> Ran:
    return run(runs, load_config(settings=TINY + LENIENT))


@pytest.fixture(scope="module")
def second(runs: Path, first: Ran) -> Ran:
    """The same once more, but for a floor that nothing reaches."""
    return run(runs, load_config(settings=TINY + IMPOSSIBLE))


def test_a_run_leaves_what_the_design_says(first: Ran, runs: Path) -> None:
    for name in (
        "config.yaml",
        "metrics.json",
        "candidates.parquet",
        "report.html",
        "retriever/manifest.json",
    ):
        assert (first.path / name).is_file()
    assert first.metrics["gate"]["passed"]
    assert {"popularity", "itemknn", "content", "engagement_head", "relevance_head"} < set(
        first.metrics["models"]
    )
    assert {
        "prepare",
        "content",
        "features",
        "pairs",
        "train",
        "preranker",
        "index",
        "evaluate",
    } <= set(first.metrics["seconds"])
    assert (runs / "latest").resolve() == first.path.resolve()


def test_every_step_is_shown_with_its_time(first: Ran) -> None:
    lines = first.shown.splitlines()
    heads = [line for line in lines if line.startswith("[")]
    assert heads == [f"[{place:2d}/{len(STEPS)}] {step}" for place, step in enumerate(STEPS, 1)]
    assert sum(line.startswith("        done in ") for line in lines) == len(STEPS)
    assert "KFP Executor" not in first.shown


def test_a_passed_gate_deploys(first: Ran, second: Ran, runs: Path) -> None:
    """And the later, rejected run does not: the champion is still the first."""
    assert (runs / "champions" / "synthetic").resolve() == (first.path / "retriever").resolve()
    store = runs / "serving" / "synthetic"
    manifest = verify(store, champion(store))
    assert manifest["mlflow"]["model_name"] == "mtmh-synthetic"
    assert manifest["created_from"]["fingerprint"] == first.metrics["data"]["fingerprint"]
    assert versions(store) == [manifest["version"]]
    assert {path.name for path in (store / "models").iterdir()} == set(manifest["models"])
    assert not second.metrics["gate"]["passed"]
    for step in ("histories", "package", "deploy"):
        assert f"] {step}\n" in first.shown
        assert f"] {step}\n" not in second.shown


def test_what_is_served_knows_the_users_of_today(first: Ran, runs: Path) -> None:
    """Events after the split too, which no evaluation of this run may see."""
    import_feast()
    from feature_repo.online import online_user_history
    from feature_repo.store import open_store

    store = open_store(runs / "serving" / "synthetic" / "versions" / "1" / "features")
    assert store.project == "mtmh_synthetic_1"
    user = pq.read_table(first.path / "candidates.parquet")["user_id"][0].as_py()
    (history,) = online_user_history(store, [user])
    assert history.as_of is not None
    assert history.as_of > datetime.fromisoformat(first.metrics["data"]["split_time"])


def test_a_rerun_takes_the_unchanged_steps_from_the_cache(second: Ran) -> None:
    # The first run became champion: the second is evaluated beside it, so that this step is new.
    assert second.cached() == set(STEPS) - set(NEVER_CACHED) - {"evaluate"}


# MLflow 3.17 asks SQLAlchemy 2.1 for things that SQLAlchemy calls deprecated.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_the_champion_in_mlflow_is_the_first_run(first: Ran, second: Ran, runs: Path) -> None:
    from components.registry import champion_of
    from components.tracking import connect

    client = connect(local.tracking_uri(runs))
    champion = champion_of(client, "mtmh-synthetic")
    assert champion is not None
    assert client.get_run(champion.run_id).info.run_name == first.path.name
    assert len(client.search_runs([client.get_experiment_by_name("mtmh").experiment_id])) == 2


def test_a_run_answers_questions(
    first: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    item = pq.read_table(first.path / "retriever" / "items.parquet")["item_id"][0].as_py()
    user = pq.read_table(first.path / "candidates.parquet")["user_id"][0].as_py()
    for question in (
        ["similar", str(first.path), item],
        ["recommend", str(first.path), user, "--alpha", "30"],
    ):
        status = mtmh(monkeypatch, *question, "--count", "3")
        printed = capsys.readouterr()
        assert status == 0, printed.err
        assert "relevance" in printed.out  # with alpha 30 the first candidate is that head's


def test_nothing_unfinished_stays(first: Ran, second: Ran, runs: Path) -> None:
    known = {"latest", "names.json", "champions", "serving", "mlflow.db", "mlartifacts"}
    known |= {first.path.name, second.path.name}
    assert {path.name for path in runs.iterdir() if not path.name.startswith(".")} == known
    kept = {path.parent.name for path in (runs / ".pipeline").glob("mtmh-*/*/*/")}
    assert kept == set(STEPS) - set(NEVER_CACHED)


def test_a_run_killed_in_training_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    longer = [*TINY, *LENIENT, "train.epochs=8"]
    settings = [part for setting in longer for part in ("--set", setting)]
    command = [
        sys.executable,
        "-c",
        "from mtmh_cli import main; main()",
        "run",
        "--runs",
        str(tmp_path),
        *settings,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while (
            not list((tmp_path / ".scratch" / "checkpoints").rglob("*.pt"))
            and process.poll() is None
        ):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "latest").exists()
    config = load_config(settings=longer)
    resumed = run(tmp_path, config)
    assert resumed.cached() == {"prepare", "content", "features", "pairs"}
    assert "train: goes on from step" in resumed.shown

    (stages,) = (path.parents[1] for path in (tmp_path / ".pipeline").glob("*/prepare/prepared"))
    inputs = [
        stages / name
        for name in ("prepare/prepared", "features/features", "content/content", "pairs/pairs")
    ]
    whole = tmp_path / "whole"
    whole.mkdir()
    # In a process of its own, as the step was: a sum's bits depend on threads, which other tests
    # may have changed.
    call = (
        "import sys; from pathlib import Path; from mtmh.config import Config; from "
        "mtmh.training.train import train; "
    )
    call += (
        "config = Config.model_validate_json(sys.argv[1]); paths = [Path(path) for path in "
        "sys.argv[2:]]; "
    )
    call += "train(*paths[:5], config.train, config.seed, paths[4] / 'checkpoints')"
    subprocess.run(
        [sys.executable, "-c", call, config.model_dump_json(), *map(str, [*inputs, whole])],
        check=True,
    )
    weights = (resumed.path / "retriever" / "weights.safetensors").read_bytes()
    assert weights == (whole / "weights.safetensors").read_bytes()
