"""Whether what rules and dashboards ask for is what the router and Triton tell.

    python -m monitoring.prometheus.queries http://127.0.0.1:8080/metrics http://127.0.0.1:8002/metrics

prints every query that names a metric or a label that none of these pages has, and exits with 1 if there is one: to be
run after a change of the router or of Triton's version, and by the tests.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

MONITORING = Path(__file__).parents[1]
TOKEN = re.compile(r"""("|')(?:\\.|(?!\1).)*\1|\$\w+|[a-zA-Z_:][\w:]*|\d[\w.]*|\S""")
NAME = re.compile(r"[a-zA-Z_:][\w:]*")
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
AGGREGATIONS = {"sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "group", "stddev", "count_values"}
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}  # it makes them itself
TARGET = {"job", "instance", "pod"}  # labels that the scrape adds


@dataclass(frozen=True)
class Query:
    """A PromQL expression and where it stands."""

    where: str
    text: str
    records: str | None = None  # the name that a recording rule gives its result
    shows: tuple[str, ...] = ()  # labels in a panel's legend


def names(text: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics of a PromQL expression, each with the labels that it is selected by; and the labels grouped by."""
    tokens = [*(found[0] for found in TOKEN.finditer(text)), ""]
    metrics: dict[str, set[str]] = {}
    grouped: set[str] = set()
    at = 0
    while at < len(tokens) - 1:
        token, following = tokens[at], tokens[at + 1]
        at += 1
        if token in GROUPING and following == "(":
            end = tokens.index(")", at)
            grouped.update(name for name in tokens[at:end] if NAME.fullmatch(name))
            at = end
        elif NAME.fullmatch(token) and not (following == "(" or token in WORDS or token in AGGREGATIONS | GROUPING):
            selected = metrics.setdefault(token, set())
            if following == "{":
                end = tokens.index("}", at)
                selected.update(name for name in tokens[at:end] if NAME.fullmatch(name))
                at = end
    return metrics, grouped


def rules(path: Path = MONITORING / "prometheus" / "rules.yaml") -> Iterator[Query]:
    """The expressions of all rules."""
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            yield Query(f"{path.name}: {rule.get('alert') or rule['record']}", rule["expr"], rule.get("record"))


def dashboards(folder: Path = MONITORING / "grafana") -> Iterator[Query]:
    """The expressions of all panels and annotations."""
    for path in sorted(folder.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                shown = tuple(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                yield Query(f"{path.name}: {panel['title']}", target["expr"], shows=shown)
        for annotation in board["annotations"]["list"]:
            yield Query(f"{path.name}: {annotation['name']}", annotation["expr"])


def exported(*pages: str) -> dict[str, set[str]]:
    """Metric -> its labels, of pages in Prometheus' text form."""
    found: dict[str, set[str]] = {}
    for page in pages:
        # Without the types: the parser would write _total behind the name of every counter, and Triton's have none.
        samples = "\n".join(line for line in page.splitlines() if not line.startswith("#"))
        for family in text_string_to_metric_families(samples + "\n"):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def unknown(queries: list[Query], told: Mapping[str, set[str]]) -> list[str]:
    """A line for each name in a query that nothing of `told`, of Prometheus or of the recording rules has."""
    known = {name: labels | TARGET for name, labels in {**told, **OF_PROMETHEUS}.items()}
    recorded = {query.records: names(query.text)[1] - {"le"} | TARGET for query in queries if query.records}
    known |= recorded
    lines = []
    for query in queries:
        metrics, grouped = names(query.text)
        for metric, labels in metrics.items():
            if metric not in known:
                lines.append(f"{query.where}: no metric {metric}")
            lines += [
                f"{query.where}: {metric} has no label {each}" for each in sorted(labels - known.get(metric, labels))
            ]
        everywhere = set().union(*(known.get(metric, set()) for metric in metrics))
        lines += [
            f"{query.where}: groups by {each}, which none of its metrics has" for each in sorted(grouped - everywhere)
        ]
    return lines


def main(addresses: list[str]) -> int:
    """Print what is unknown; returns the exit status."""
    pages = []
    for address in addresses:
        with urllib.request.urlopen(address, timeout=10) as page:
            pages.append(page.read().decode())
    queries = [*rules(), *dashboards()]
    lines = unknown(queries, exported(*pages))
    print("\n".join(lines) or f"{len(queries)} queries, every name is told")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
