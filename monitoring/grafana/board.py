"""A dashboard in short, and how that is written in Grafana's JSON (schema version 39: Grafana 10
and later).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8  # Grafana's grid; a chart's height in it


@dataclass(frozen=True)
class Panel:
    """A chart over time, or with `now` its last value alone. `unit` is Grafana's name of it."""

    title: str
    means: str
    queries: dict[str, str]  # legend -> PromQL
    unit: str = "short"
    bound: float | None = None  # red from here on
    now: bool = False
    good: float | None = None  # with `now`: green from here on, red below


@dataclass(frozen=True)
class Dashboard:
    """Rows of panels; the file and the address are named `name`."""

    name: str
    title: str
    means: str
    rows: dict[str, Sequence[Panel]] = field(default_factory=dict)


def as_json(board: Dashboard) -> str:
    """The dashboard as Grafana imports it."""
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }
    alerts = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "step": "60s",
        "expr": 'ALERTS{alertname=~"Mtmh.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }
    links = {"type": "dashboards", "title": "mtmh", "tags": ["mtmh"], "asDropdown": False}
    dashboard = {
        "uid": board.name,
        "title": board.title,
        "description": board.means,
        "tags": ["mtmh"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "annotations": {"list": [alerts]},
        "links": [links],
        "panels": _panels(board),
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _panels(board: Dashboard) -> list[dict[str, Any]]:
    """Row after row, each row's panels side by side over the whole width."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in board.rows.items():
        heading = {
            "id": len(panels) + 1,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            "panels": [],
        }
        panels.append(heading)
        # Single values are half as high as charts.
        width = WIDTH // len(row)
        height = HEIGHT // 2 if row[0].now else HEIGHT
        for number, panel in enumerate(row):
            position = {"x": number * width, "y": y + 1, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": position, **_panel(panel)})
        y += 1 + height
    return panels


def _panel(panel: Panel) -> dict[str, Any]:
    """A chart over time, or with `now` its last value; red from the bound on."""
    targets = [
        {
            "refId": "ABCDEFGH"[number],
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": legend or "__auto",
            "range": True,
        }
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bound is not None:
        steps.append({"color": "red", "value": panel.bound})
    if panel.good is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.good}]
    thresholds = {"mode": "absolute", "steps": steps}
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": thresholds}
    if panel.unit == "percentunit":
        defaults["min"] = 0
    # A single value, or lines with the bound drawn in.
    options: dict[str, Any]
    if panel.now:
        calculation = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        options = {"reduceOptions": calculation, "colorMode": "value", "graphMode": "area"}
        options["textMode"] = "auto"
    else:
        style = "line" if panel.bound is not None else "off"
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
        defaults["custom"]["thresholdsStyle"] = {"mode": style}
        legend_box = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        options = {"legend": legend_box, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {
        "type": "stat" if panel.now else "timeseries",
        "title": panel.title,
        "description": panel.means,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }
