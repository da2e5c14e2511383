"""Which rows count as engagement, and that a run says so."""

from pathlib import Path

import pyarrow as pa
import pytest
from helpers.small_log import EVENTS, MakeFolder

from mtmh.config import DataSettings
from mtmh.data.engagement import doubtful_events
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.data.profile.advice import findings
from mtmh.data.profile.describe import describe
from mtmh.errors import UserError


def test_negative_values_do_not_count_and_are_said(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(interactions={"value": pa.array([-1.0, 0.0, 1.0, 1.0] * (EVENTS // 4))})
    prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)
    assert len(Prepared.load(tmp_path / "out").user) == 150
    printed = capsys.readouterr().out
    assert "count as engagement: view (150)" in printed
    assert "do not count: view (50) (50 rows have a negative value)" in printed
    means = {
        one.about: one.means for one in findings(describe(folder, DataSettings()), DataSettings())
    }
    assert means["values"].startswith("50 rows have a negative value and do not count")


def test_min_value_may_count_them(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(interactions={"value": pa.array([-1.0, 1.0] * (EVENTS // 2))})
    prepare(str(folder), tmp_path / "out", DataSettings(min_value=-1.0), seed=0)
    assert len(Prepared.load(tmp_path / "out").user) == EVENTS


def test_nothing_but_negative_values_is_an_error(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(interactions={"value": pa.array([-1.0] * EVENTS)})
    with pytest.raises(UserError, match=r"every value is negative .*Write data\.min_value"):
        prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)


def test_exposures_and_dislikes_are_pointed_out(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = pa.array(["Impression_View"] * 100 + ["skip"] * 50 + ["click"] * 50)
    folder = make_folder(interactions={"event": events})
    prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)
    printed = capsys.readouterr().out
    assert "count as engagement: Impression_View (100), click (50), skip (50)" in printed
    assert "warning: events named Impression_View, skip sound like what was shown" in printed
    means = {
        one.about: one.means for one in findings(describe(folder, DataSettings()), DataSettings())
    }
    assert means["events"] == "count as engagement: Impression_View (100), click (50), skip (50)."
    assert describe(folder, DataSettings()).log.exposures == 150


def test_names_of_engagement_are_not_doubted() -> None:
    fine = (
        "view",
        "click",
        "purchase",
        "add_to_cart",
        "like",
        "rating",
        "share",
        "play",
        "read",
        "follow",
        "review",
    )
    assert doubtful_events(dict.fromkeys(fine, 1)) == []
