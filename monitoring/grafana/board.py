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

    def as_chart(self) -> dict[str, Any]:
        """A chart over time, or with `now` its last value; red from the bound on."""
        targets = [
            {
                "refId": "ABCDEFGH"[number],
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": label or "__auto",
                "range": True,
            }
            for number, (label, query) in enumerate(self.queries.items())
        ]
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.bound is not None:
            steps.append({"color": "red", "value": self.bound})
        if self.good is not None:
            steps = [{"color": "red", "value": None}, {"color": "green", "value": self.good}]
        thresholds = {"mode": "absolute", "steps": steps}
        defaults: dict[str, Any] = {"unit": self.unit, "thresholds": thresholds}
        if self.unit == "percentunit":
            defaults["min"] = 0
        # A single value, or lines with the bound drawn in.
        options: dict[str, Any]
        if self.now:
            calculation = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            options = {"reduceOptions": calculation, "colorMode": "value", "graphMode": "area"}
            options["textMode"] = "auto"
        else:
            style = "line" if self.bound is not None else "off"
            defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
            defaults["custom"]["thresholdsStyle"] = {"mode": style}
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        return {
            "type": "stat" if self.now else "timeseries",
            "title": self.title,
            "description": self.means,
            "datasource": SOURCE,
            "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": options,
        }


@dataclass(frozen=True)
class Dashboard:
    """Rows of panels; the file and the address are named `name`."""

    name: str
    title: str
    means: str
    rows: dict[str, Sequence[Panel]] = field(default_factory=dict)

    def panels(self) -> list[dict[str, Any]]:
        """Row after row, each row's panels side by side over the whole width."""
        panels: list[dict[str, Any]] = []
        y = 0
        for title, row in self.rows.items():
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
                panels.append({"id": len(panels) + 1, "gridPos": position, **panel.as_chart()})
            y += 1 + height
        return panels


def as_json(board: Dashboard) -> str:
    """The dashboard as Grafana imports it."""
    # Chosen on the page: Prometheus has another uid in every Grafana.
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,  # read when the dashboard is opened
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }
    # Drawn over the charts, so that one sees what a figure did when the alert fired.
    alerts = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "step": "60s",
        "expr": 'ALERTS{alertname=~"Mtmh.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }
    # From each of these dashboards to the others: they share the tag.
    links = {"type": "dashboards", "title": "mtmh", "tags": ["mtmh"], "asDropdown": False}
    dashboard = {
        "uid": board.name,
        "title": board.title,
        "description": board.means,
        "tags": ["mtmh"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all charts
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "annotations": {"list": [alerts]},
        "links": [links],
        "panels": board.panels(),
    }
    return json.dumps(dashboard, indent=1) + "\n"
