"""Arrows between rooms: found wherever they stand, judged by the order of the rooms, and none of
today's is wrong.
"""

from pathlib import Path

import pytest

from tools.arrows import allowed, arrows
from tools.texture import python_files

ROOT = Path(__file__).parents[2]
INVENTED = '''"""A step."""

import sys
from mtmh.errors import UserError


def start(data):
    from mtmh import training
    import mtmh.data.pairs

    return [sys.executable, "-m", "mtmh_cli", "run"], ["-m", "json.tool"], ("pipelines.main", "-m"), training
'''


def test_imports_inside_functions_and_started_modules_are_arrows(tmp_path: Path) -> None:
    for room in ("training", "data"):
        (tmp_path / "mtmh" / room).mkdir(parents=True)
    (tmp_path / "monitoring").mkdir()
    file = tmp_path / "monitoring" / "invented.py"
    file.write_text(INVENTED)
    drawn = {
        (arrow.above, arrow.below, str(arrow.file), arrow.line)
        for arrow in arrows(tmp_path, [file])
    }
    path = "monitoring/invented.py"
    assert drawn == {
        ("monitoring", "mtmh", path, 4),
        ("monitoring", "mtmh.training", path, 8),
        ("monitoring", "mtmh.data", path, 9),
        ("monitoring", "mtmh_cli", path, 11),
    }


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("monitoring", "mtmh_cli"),
        ("monitoring", "simulation"),
        ("serving", "monitoring"),
        ("feature_repo", "serving"),
        ("mtmh.data", "mtmh.content"),
        ("mtmh.exposures", "mtmh.experiment"),
        ("mtmh.data", "mtmh.experiment"),
        ("mtmh.experiment", "mtmh.report"),
        ("mtmh.data", "feature_repo"),
        ("mtmh", "mtmh.data"),
        ("mtmh.training", "mtmh.retrieval"),
        ("mtmh_cli", "benchmarks"),
        ("pipelines", "benchmarks"),
        ("benchmarks", "tests"),
    ],
)
def test_an_arrow_upward_or_aside_is_not_allowed(above: str, below: str) -> None:
    assert not allowed(above, below)


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("mtmh_cli", "pipelines"),
        ("pipelines", "feature_repo"),
        ("components", "monitoring"),
        ("serving", "mtmh.experiment"),
        ("mtmh.retrieval", "mtmh.training"),
        ("mtmh.experiment", "mtmh.exposures"),
        ("mtmh.data", "mtmh"),
        ("benchmarks", "mtmh_cli"),
        ("tests", "benchmarks"),
    ],
)
def test_an_arrow_downward_is_allowed(above: str, below: str) -> None:
    assert allowed(above, below)


def test_every_arrow_of_the_house_points_downward() -> None:
    drawn = list(arrows(ROOT, python_files(ROOT)))
    assert {arrow.above for arrow in drawn} >= {
        "mtmh_cli",
        "pipelines",
        "components",
        "mtmh.report",
    }
    assert [
        f"{arrow.file}:{arrow.line}: {arrow.above} -> {arrow.below}"
        for arrow in drawn
        if not allowed(arrow.above, arrow.below)
    ] == []
