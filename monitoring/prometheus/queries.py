"""Whether what rules, dashboards and the autoscaler query is what the router and Triton export.

    python -m monitoring.prometheus.queries http://127.0.0.1:8080/metrics http://127.0.0.1:8002/metrics

prints every query that names a metric or a label that none of these pages has, and exits with 1 if
there is one: to be run after a change of the router or of Triton's version, and by the tests.
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
AUTOSCALING = MONITORING.parent / "k8s" / "overlays" / "autoscaling" / "triton.yaml"
# Quoted texts, Grafana's variables, names, numbers and durations, any other sign.
TOKEN = re.compile(r"""("|')(?:\\.|(?!\1).)*\1|\$\w+|[a-zA-Z_:][\w:]*|\d[\w.]*|\S""")
NAME = re.compile(r"[a-zA-Z_:][\w:]*")
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
AGGREGATIONS = {
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "bottomk",
    "quantile",
    "group",
    "stddev",
    "count_values",
}
# It makes them itself.
OF_PROMETHEUS = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity"},
}
# Triton tells these where it has a GPU (its docs/user_guide/metrics.md); none was at hand to ask.
OF_A_GPU = {
    f"nv_gpu_{name}": {"gpu_uuid"}
    for name in (
        "utilization",
        "power_usage",
        "power_limit",
        "memory_used_bytes",
        "memory_total_bytes",
    )
}
TARGET = {"job", "instance", "pod"}  # labels that the scrape adds


@dataclass(frozen=True)
class Query:
    """A PromQL expression and where it stands."""

    where: str
    text: str
    records: str | None = None  # the name that a recording rule gives its result
    shows: tuple[str, ...] = ()  # labels in a panel's legend


def names(text: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics of a PromQL expression, each with the labels that it is selected by; and the
    labels grouped by.
    """
    # The empty one at the end is what follows the last token.
    tokens = [*(match[0] for match in TOKEN.finditer(text)), ""]
    metrics: dict[str, set[str]] = {}
    grouped: set[str] = set()
    position = 0
    while position < len(tokens) - 1:
        token, following = tokens[position], tokens[position + 1]
        position += 1
        is_word = token in WORDS or token in AGGREGATIONS | GROUPING
        # by (le, model): names of labels, which would else be taken for metrics.
        if token in GROUPING and following == "(":
            end = tokens.index(")", position)
            grouped.update(name for name in tokens[position:end] if NAME.fullmatch(name))
            position = end
        # A name before a bracket is a function; any other is a metric, its labels in braces.
        elif NAME.fullmatch(token) and not (following == "(" or is_word):
            selected = metrics.setdefault(token, set())
            if following == "{":
                end = tokens.index("}", position)
                selected.update(name for name in tokens[position:end] if NAME.fullmatch(name))
                position = end
    return metrics, grouped


def rules(path: Path = MONITORING / "prometheus" / "rules.yaml") -> Iterator[Query]:
    """The expressions of all rules."""
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            yield Query(
                f"{path.name}: {rule.get('alert') or rule['record']}",
                rule["expr"],
                rule.get("record"),
            )


def dashboards(folder: Path = MONITORING / "grafana") -> Iterator[Query]:
    """The expressions of all panels and annotations."""
    for path in sorted(folder.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                labels = tuple(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                yield Query(f"{path.name}: {panel['title']}", target["expr"], shows=labels)
        for annotation in board["annotations"]["list"]:
            yield Query(f"{path.name}: {annotation['name']}", annotation["expr"])


def autoscaler(overlay: Path = AUTOSCALING) -> Iterator[Query]:
    """The expressions that a cluster is scaled on."""
    for body in yaml.safe_load_all(overlay.read_text()):
        for trigger in body["spec"]["triggers"]:
            yield Query(f"{overlay.name}: {body['metadata']['name']}", trigger["metadata"]["query"])


def exported(*pages: str) -> dict[str, set[str]]:
    """Metric -> its labels, of pages in Prometheus' text form."""
    labels: dict[str, set[str]] = {}
    for page in pages:
        # Without the types: the parser would write _total behind the name of every counter, and
        # Triton's have none.
        samples = "\n".join(line for line in page.splitlines() if not line.startswith("#"))
        for family in text_string_to_metric_families(samples + "\n"):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def unknown(queries: list[Query], exported: Mapping[str, set[str]]) -> list[str]:
    """A line for each name in a query that nothing exported, Prometheus or a rule has."""
    labelled = {**OF_A_GPU, **OF_PROMETHEUS, **exported}
    labels_of = {name: labels | TARGET for name, labels in labelled.items()}
    # A recording rule has the labels that it groups by.
    for query in queries:
        if query.records:
            labels_of[query.records] = names(query.text)[1] - {"le"} | TARGET
    # Then every name of every query is looked up.
    lines = []
    for query in queries:
        metrics, grouped = names(query.text)
        for metric, labels in metrics.items():
            if metric not in labels_of:
                lines.append(f"{query.where}: no metric {metric}")
            for label in sorted(labels - labels_of.get(metric, labels)):
                lines.append(f"{query.where}: {metric} has no label {label}")
        everywhere = set().union(*(labels_of.get(metric, set()) for metric in metrics))
        for label in sorted(grouped - everywhere):
            lines.append(f"{query.where}: groups by {label}, which none of its metrics has")
    return lines


def main(addresses: list[str]) -> int:
    """Print what is unknown; returns the exit status."""
    pages = []
    for address in addresses:
        with urllib.request.urlopen(address, timeout=10) as page:
            pages.append(page.read().decode())
    queries = [*rules(), *dashboards(), *autoscaler()]
    lines = unknown(queries, exported(*pages))
    print("\n".join(lines) or f"{len(queries)} queries, every name is told")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
