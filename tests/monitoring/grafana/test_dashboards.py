"""Grafana's dashboards are what the code writes, and what Grafana takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from monitoring.grafana.board import WIDTH, as_json
from monitoring.grafana.dashboards import DASHBOARDS

GRAFANA = Path(__file__).parents[3] / "monitoring" / "grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))}
EACH = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))


def test_the_files_are_what_python_m_monitoring_grafana_writes() -> None:
    assert {board.name: as_json(board) for board in DASHBOARDS} == {
        path.stem: path.read_text() for path in GRAFANA.glob("*.json")
    }


def test_each_has_an_address_of_its_own() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {name: name for name in BOARDS}
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS) == 3


@EACH
def test_every_query_goes_to_the_prometheus_that_the_reader_chose(board: dict[str, Any]) -> None:
    (variable,) = board["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    charts = [panel for panel in board["panels"] if panel["type"] != "row"]
    asking = [
        *charts,
        *(target for panel in charts for target in panel["targets"]),
        *board["annotations"]["list"],
    ]
    assert {(each["datasource"]["type"], each["datasource"]["uid"]) for each in asking} == {
        ("prometheus", "${datasource}")
    }


@EACH
def test_panels_lie_side_by_side_and_say_what_they_mean(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        place = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not place & taken, panel["title"]
        assert at["x"] + at["w"] <= WIDTH
        taken |= place
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert [target["refId"] for target in panel["targets"]] == list(
                "ABCDEFGH"[: len(panel["targets"])]
            )
