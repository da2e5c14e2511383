"""From a router's answers to the A/B page and the monitor, with nothing of the simulator between:
log, compaction, watched folder.
"""

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from helpers.checkerboard import retrieval_settings, write_source
from helpers.command_line import mtmh
from helpers.live_router import Router, RouterFolder, Run

from mtmh.config import Config
from mtmh.experiment.folder import open_experiment

with warnings.catch_warnings():  # Evidently's import warns about NumPy's names
    warnings.simplefilter("ignore")
    import evidently.ui.workspace  # noqa: F401

USERS = [f"u{number:02d}" for number in range(60)]
ARMS = {"salt": "s1", "arms": [{"name": "as-is"}, {"name": "more-relevance", "alpha": 20}]}


@pytest.fixture
def run(place: RouterFolder, tmp_path: Path) -> Path:
    """What of the run that serves the watched folder is made from."""
    source, run = write_source(tmp_path / "data"), tmp_path / "run"
    shutil.copytree(place.retrievers["1"], run / "retriever")
    config = Config(retrieval=retrieval_settings())
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (run / "metrics.json").write_text(json.dumps({"data": {"path": str(source)}}))
    return run


@pytest.fixture
def log(place: RouterFolder) -> Iterator[Path]:
    """The routers' log, where a cluster has it."""
    yield place.store / "log"
    shutil.rmtree(place.store / "log")


def live(router: Router) -> None:
    """Every user asks twice, and likes the first candidate."""
    for user in USERS * 2:
        answer = router.retrieve(user_id=user, triggers=["i00", "i11"], k=8)
        (first, *_) = answer["candidates"]
        event = {
            "user_id": user,
            "item_id": first["item_id"],
            "event": "like",
            "request_id": answer["request_id"],
        }
        router.post("/v1/engagements", {"engagements": [event]})


@pytest.mark.parametrize("experiment", [None, ARMS], ids=["a-a", "a-b"])
def test_what_a_router_logs_becomes_the_ab_page_and_the_monitors_figures(
    run_router: Run,
    place: RouterFolder,
    log: Path,
    run: Path,
    experiment: dict | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(yaml.safe_dump({"experiment": experiment} if experiment else {}))
    with run_router(f"log.directory={log / 'router-0'}", config=config) as router:
        live(router)
        watched, out = tmp_path / "watched", tmp_path / "monitoring"
        # The router goes on: what it is writing is read through the folder's link.
        assert mtmh(monkeypatch, "log", "compact", str(log), str(watched / "tables")) == 0
        words = ["watch", "folder", str(watched), "--store", str(place.store)]
        assert mtmh(monkeypatch, *words, "--run", str(run), "--config", str(config)) == 0
        names = ("as-is", "more-relevance") if experiment else ("first half", "second half")
        assert f"{names[1]} against {names[0]}" in capsys.readouterr().out
        assert mtmh(monkeypatch, "monitor", str(watched), "--out", str(out), "--no-serve") == 0
        assert mtmh(monkeypatch, "ab", str(watched)) == 0
        printed = capsys.readouterr().out
        assert ("An A/A test" in printed) == (experiment is None)
    page = (watched / "ab" / "ab.html").read_text()
    assert ("Nothing is compared here" in page) == (experiment is None)
    # Every user is in an arm, every answer counted, by name.
    figures = pq.read_table(out / "figures.parquet").to_pylist()
    by = {(row["family"], row["of"], row["label"]): row["value"] for row in figures}
    assert [by["online", name, "users"] > 20 for name in names] == [True, True]
    assert sum(by["online", name, "users"] for name in names) == len(USERS)
    assert by["quality", "log", "answers"] == by["quality", "log", "engagements"] == 2 * len(USERS)
    assert by["findings", "log", "unknown_arm"] == by["findings", "log", "misplaced"] == 0
    # What the metrics are measured against: the items and the past of the run's data.
    folder = open_experiment(watched)
    assert not folder.experiment.simulated
    assert len(pq.read_table(folder.items)) == 44
    assert len(pq.read_table(folder.history)) > 500
    # Made again after the router is gone, with its last segment compacted, it says the same.
    assert mtmh(monkeypatch, "log", "compact", str(log), str(watched / "tables")) == 0
    assert mtmh(monkeypatch, *words, "--run", str(run), "--config", str(config)) == 0
    assert open_experiment(watched).experiment == folder.experiment
