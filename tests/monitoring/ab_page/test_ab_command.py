"""`mtmh ab` over a whole place: from the log on disk to the page, checked against a plain count."""

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from helpers.watched_users import write_place
from typer.testing import CliRunner

from mtmh.errors import UserError
from mtmh.experiment.comparison import MISPLACED, UNUSABLE, read_tables
from mtmh.experiment.folder import open_experiment
from mtmh_cli import app


def plain_rate(place: Path, arm: str) -> float:
    """Impressions engaged with / impressions, counted in Python."""
    shown = ds.dataset(place / "tables" / "exposures", partitioning="hive").to_table().to_pylist()
    liked = ds.dataset(place / "tables" / "engagements", partitioning="hive").to_table().to_pylist()
    engaged = {(row["request_id"], row["item_id"]) for row in liked}
    own = [row for row in shown if row["arm"] == arm]
    return sum((row["request_id"], row["item_id"]) in engaged for row in own) / len(own)


def test_a_place_becomes_a_report_beside_it(tmp_path: Path) -> None:
    place = write_place(tmp_path / "place")
    told = CliRunner().invoke(app, ["ab", str(place)])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("No winner yet.")
    assert "The users are simulated." in told.output
    assert str(place / "ab" / "ab.html") in told.output.replace("\n", "")
    ab = json.loads((place / "ab" / "ab.json").read_text())
    for side, arm in (("control", "old"), ("treatment", "new")):
        assert ab["engagement_rate"][side] == pytest.approx(plain_rate(place, arm))
    assert ab["relevance_share"]["control"] == 0
    assert ab["relevance_share"]["treatment"] == pytest.approx(0.5)
    assert sum(ab["sample_ratio"]["observed"].values()) == 400
    assert "No winner yet" in (place / "ab" / "ab.html").read_text()


def test_users_in_both_arms_are_left_out_and_stop_the_verdict(tmp_path: Path) -> None:
    place = write_place(tmp_path / "place", in_both=20)
    told = CliRunner().invoke(app, ["ab", str(place), "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("This comparison cannot be judged.")
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert verdict["verdict"]["outcome"] == "unjudged"
    assert "Contamination: 20 of 400 users" in " ".join(verdict["verdict"]["reasons"])
    ab = json.loads((tmp_path / "out" / "ab.json").read_text())
    assert sum(ab["sample_ratio"]["observed"].values()) == 380


def test_the_findings_that_stop_a_verdict_are_among_those_looked_for(tmp_path: Path) -> None:
    looked_for = {
        finding.name
        for finding in read_tables(open_experiment(write_place(tmp_path / "place"))).findings
    }
    assert {*UNUSABLE, *MISPLACED} <= looked_for


def test_a_folder_that_is_no_place_is_an_error_for_people(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["ab", str(tmp_path / "nowhere")])
    assert isinstance(told.exception, UserError)
    assert "mtmh simulate" in str(told.exception)
