"""The monitor on a place of four days, the last of them another world: what it measures, keeps and
tells.
"""

import json
import shutil
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from evidently.core.metric_types import TestStatus as Status
from evidently.ui.workspace import Workspace
from helpers.small_place import ARMS, DAYS, FIRST, write_place

from monitoring.ab_page.page import ab
from monitoring.evidently.bounds import Bounds, read_bounds
from monitoring.evidently.figures import FIGURES
from monitoring.evidently.monitor import FIGURES_FILE, WORKSPACE, Monitored, monitor
from monitoring.retraining import due
from mtmh.errors import UserError
from mtmh.experiment.comparison import compare, read_tables
from mtmh.experiment.data import experiment_data
from mtmh.experiment.folder import ExperimentFolder, open_experiment
from mtmh.experiment.metrics import METRICS, daily

LAST = FIRST + timedelta(days=DAYS - 1)


def value(found: Monitored, day: date, family: str, of: str, label: str) -> float:
    rows = found.figures.to_pylist()
    wanted = {"day": day, "family": family, "of": of, "label": label}
    (value,) = [row["value"] for row in rows if {**row, **wanted} == row]
    return float(value)


def test_online_figures_are_those_of_the_metrics(
    place: ExperimentFolder, monitored: Monitored
) -> None:
    for row in daily(experiment_data(place)).to_pylist():
        for name in METRICS:
            if row[name] is not None:
                assert value(monitored, row["day"], "online", row["arm"], name) == pytest.approx(
                    row[name]
                )


def test_another_world_drifts_and_the_same_one_does_not(monitored: Monitored) -> None:
    own = [
        one
        for one in monitored.broken
        if one.family in ("embeddings", "topics") or one.label == "l1_topic"
    ]
    assert {one.day for one in own} == {LAST}
    shown = {f"shown, {arm['name']}" for arm in ARMS}
    assert {one.label for one in own if one.of == "engagement"} == {"engaged", *shown}
    assert {one.of for one in own if one.label == "l1_topic"} == {arm["name"] for arm in ARMS}
    for label in ("engaged", *shown):
        assert abs(value(monitored, FIRST, "embeddings", "engagement", label)) < 0.01
        assert value(monitored, LAST, "embeddings", "engagement", label) > 0.3


def test_scores_that_did_not_change_do_not_drift(monitored: Monitored) -> None:
    for day in monitored.days:
        for arm, head in (
            ("engagement-only", "engagement"),
            ("mtmh", "engagement"),
            ("mtmh", "relevance"),
        ):
            assert value(monitored, day, "drift", arm, f"score_{head}") < 0.25


def test_freshness_and_heads(monitored: Monitored) -> None:
    # Items come every eight hours from the day before on: at noon of the first day the youngest is
    # four hours old.
    assert value(monitored, FIRST, "freshness", "mtmh", "newest_age_hours") == pytest.approx(4)
    assert value(monitored, FIRST, "freshness", "mtmh", "fresh_coverage") == pytest.approx(
        5 / 6, abs=0.17
    )
    added = value(monitored, FIRST, "freshness", "mtmh", "added_share")
    assert added == pytest.approx(
        value(monitored, FIRST, "online", "mtmh", "fresh_share"), abs=1e-9
    )
    both = [
        value(monitored, FIRST, "heads", f"mtmh, {head}", "impressions")
        for head in ("engagement", "relevance")
    ]
    assert both[1] / sum(both) == pytest.approx(
        value(monitored, FIRST, "online", "mtmh", "relevance_share")
    )
    score = value(monitored, FIRST, "heads", "mtmh, relevance", "mean_score")
    assert score == pytest.approx(0.042, rel=0.1)


def test_evidently_fails_the_same_figures(
    place: ExperimentFolder, out: Path, monitored: Monitored
) -> None:
    workspace = Workspace(str(out / WORKSPACE))
    failed = Counter()
    for own in workspace.list_runs(monitored.project):
        snapshot = workspace.get_run(monitored.project, own)
        assert snapshot is not None
        results = [test for result in snapshot.metric_results.values() for test in result.tests]
        assert all(test.status in (Status.SUCCESS, Status.FAIL) for test in results)
        if "day" in snapshot.tags:
            failed[snapshot.metadata["day"]] += sum(test.status == Status.FAIL for test in results)
    assert failed == Counter(str(one.day) for one in monitored.broken) + Counter()
    assert failed[str(LAST)] > 0


def test_a_snapshot_a_day_and_arm_and_a_day_again_replaces_its_own(
    place: ExperimentFolder, out: Path, monitored: Monitored, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(out, again)
    runs = Workspace(str(again / WORKSPACE)).list_runs(monitored.project)
    assert len(runs) == DAYS * (len(ARMS) + 1)
    once = monitor(place, again, read_bounds(), LAST, LAST)
    assert once.project == monitored.project
    assert sorted(map(str, Workspace(str(again / WORKSPACE)).list_runs(once.project))) == sorted(
        map(str, runs)
    )
    kept = pq.read_table(again / FIGURES_FILE)
    assert kept.schema.equals(FIGURES)
    assert set(kept["day"].to_pylist()) == set(monitored.days)
    rows = [
        sorted(map(str, table.to_pylist())) for table in (kept, pq.read_table(out / FIGURES_FILE))
    ]
    assert rows[0] == rows[1]  # one day alone has the figures that it has among all


def test_the_last_day_raises_a_retraining_run_and_not_twice(
    place: ExperimentFolder, monitored: Monitored, tmp_path: Path
) -> None:
    bounds = Bounds.model_validate(
        {"bounds": {"embeddings": {"*": {"max": 0.03}}}, "retrain": ["embeddings"]}
    )
    found = monitor(place, tmp_path, bounds)
    assert {one.day for one in found.retrain} == {LAST}
    assert due(found, tmp_path, bounds)
    for ago, again in ((3, False), (7, True), (0, False), (-3, False), (-40, False)):
        (tmp_path / "retraining.json").write_text(
            json.dumps({"day": str(LAST - timedelta(days=ago))})
        )
        assert due(found, tmp_path, bounds) == again
    assert not due(monitor(place, tmp_path, bounds, FIRST, FIRST), tmp_path, bounds)


def test_the_dashboards_lift_is_the_ab_pages(place: ExperimentFolder, monitored: Monitored) -> None:
    effects = ab(compare(place, read_tables(place)))
    for label in ("time_spent", "engagement_rate", "daily_active_users"):
        for end in ("lift", "always_lo", "always_hi"):
            assert value(monitored, LAST, "lift", end, label) == pytest.approx(
                effects[label][end], rel=1e-12
            ), label


def test_an_empty_day_is_monitored_too(tmp_path: Path) -> None:
    place = open_experiment(write_place(tmp_path / "place", missing=[2]))
    found = monitor(place, tmp_path / "out", read_bounds())
    empty = FIRST + timedelta(days=2)
    assert value(found, empty, "quality", "log", "answers") == 0
    assert value(found, empty, "online", "mtmh", "time_spent") == 0
    assert value(found, LAST, "findings", "log", "empty_days") == 1
    outside = {(one.family, one.label) for one in found.broken if one.day == empty}
    assert outside == {("quality", "answers"), ("quality", "engagements")}
    assert any(
        f"{empty}  Volume of the log, log: Answers is 0; wanted at least 1" in line
        for line in found.summary()
    )


def test_without_a_version_there_is_no_drift_and_it_is_said(tmp_path: Path) -> None:
    folder = write_place(tmp_path / "place")
    told = json.loads((folder / "experiment.json").read_text())
    for name, family, note in (
        ("run", "drift", "No evaluated lists"),
        ("retriever", "embeddings", "No drift of"),
    ):
        (folder / "experiment.json").write_text(json.dumps({**told, name: None}))
        found = monitor(open_experiment(folder), tmp_path / name, read_bounds())
        assert family not in set(found.figures["family"].to_pylist())
        assert any(note in one for one in found.summary())
        assert pc.sum(pc.equal(found.figures["family"], "online")).as_py() > 0


def test_days_that_are_not_the_experiments_are_refused(
    place: ExperimentFolder, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="not days of the experiment"):
        monitor(place, tmp_path, read_bounds(), FIRST - timedelta(days=1), FIRST)
