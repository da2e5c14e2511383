"""`mtmh power`: what a user types and reads."""

from pathlib import Path

import pytest
from helpers.command_line import mtmh
from helpers.watched import draw, make_place


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path / "watched", *draw(seed=1, users=30))


def test_power_says_what_an_experiment_would_find(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    assert (
        mtmh(monkeypatch, "power", str(place), "--users", "20000", "--lift", "0.05", "--days", "2")
        == 0
    )
    told = capsys.readouterr().out
    assert "20,000 users in both arms together, 2 days;" in told
    assert "users for +5.00%" in told
    assert "Engagement rate" in told


def test_power_explains_what_it_cannot_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    assert mtmh(monkeypatch, "power", str(place), "--days", "9") == 2
    assert "has a log of 4 days" in capsys.readouterr().err
    assert mtmh(monkeypatch, "power", str(place), "--share", "1") == 2
    assert "share and power must lie between 0 and 1" in capsys.readouterr().err
    assert mtmh(monkeypatch, "power", str(place / "nowhere")) == 2
    assert "no such folder" in capsys.readouterr().err
