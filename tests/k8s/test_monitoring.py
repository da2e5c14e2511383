"""The overlay `monitoring` carries what lies in monitoring/, and its scrape jobs find the pods that
may be read.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.check.__main__ import OVERLAYS
from k8s.check.render import KubeObject, Rendered, matches, render
from monitoring.prometheus.__main__ import OPERATOR, prometheus_rule
from monitoring.prometheus.queries import autoscaler

MONITORING = OVERLAYS.parents[1] / "monitoring"
JOBS = yaml.safe_load((MONITORING / "prometheus" / "cluster.yaml").read_text())["scrape_configs"]
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}

if shutil.which("kubectl") is None and not os.environ.get("CI"):
    message = "no kubectl on the PATH: install it with 'apt-get install -y kubernetes-client'"
    pytest.skip(message, allow_module_level=True)


def test_the_configmaps_are_the_files() -> None:
    rendered = render(OVERLAYS / "monitoring")
    told = {thing.name: thing.body for thing in rendered.of("ConfigMap")}
    dashboards = {path.name: path.read_text() for path in (MONITORING / "grafana").glob("*.json")}
    assert told["mtmh-dashboards"]["data"] == dashboards
    assert told["mtmh-dashboards"]["metadata"]["labels"]["grafana_dashboard"] == "1"
    for name in ("rules.yaml", "cluster.yaml"):
        assert (
            told["mtmh-prometheus"]["data"][name] == (MONITORING / "prometheus" / name).read_text()
        )


def targets(job: dict[str, Any], rendered: Rendered) -> Iterator[tuple[KubeObject, dict[str, Any]]]:
    """The pods and ports that a scrape job keeps, by Prometheus' rules of relabelling."""
    (discovery,) = job["kubernetes_sd_configs"]
    for thing in rendered.workloads:
        if thing.body["metadata"]["namespace"] not in discovery["namespaces"]["names"]:
            continue
        labels = {
            f"label_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value
            for name, value in thing.labels.items()
        }
        for container in thing.containers:
            for port in container.get("ports", []):
                known = {**labels, "container_port_name": port.get("name", "")}
                told = {f"__meta_kubernetes_pod_{name}": value for name, value in known.items()}
                kept = [rule for rule in job["relabel_configs"] if rule.get("action") == "keep"]
                values = [
                    ";".join(told.get(name, "") for name in rule["source_labels"]) for rule in kept
                ]
                if all(
                    re.fullmatch(rule["regex"], value)
                    for rule, value in zip(kept, values, strict=True)
                ):
                    yield thing, port


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_each_job_finds_its_pods_and_the_network_lets_prometheus_in(overlay: str) -> None:
    rendered = render(OVERLAYS / overlay)
    found = {
        job["job_name"]: [(pod.name, port["name"]) for pod, port in targets(job, rendered)]
        for job in JOBS
    }
    assert found == {"mtmh-router": [("router", "http")], "mtmh-triton": [("triton", "metrics")]}
    for job in JOBS:
        for pod, port in targets(job, rendered):
            rules = [
                rule
                for policy in rendered.of("NetworkPolicy")
                if matches(policy.body["spec"]["podSelector"], pod.labels)
                for rule in policy.body["spec"].get("ingress", [])
                if any(each["podSelector"]["matchLabels"] == PROMETHEUS for each in rule["from"])
            ]
            assert [pod.port(each["port"]) for rule in rules for each in rule["ports"]] == [
                port["containerPort"]
            ]


def test_the_operators_rules_are_those_of_the_file() -> None:
    assert OPERATOR.read_text() == prometheus_rule()
    (rule,) = render(OVERLAYS / "prometheus-operator").of("PrometheusRule")
    written = yaml.safe_load((MONITORING / "prometheus" / "rules.yaml").read_text())
    assert rule.body["spec"] == written


def test_the_operators_monitors_name_the_jobs_and_scrape_what_the_jobs_do() -> None:
    rendered = render(OVERLAYS / "prometheus-operator")
    monitored = {}
    for monitor in rendered.of("PodMonitor"):
        (endpoint,) = monitor.body["spec"]["podMetricsEndpoints"]
        (relabeling,) = endpoint["relabelings"]
        assert relabeling["targetLabel"] == "job"
        pods = rendered.selected(monitor.body["spec"]["selector"])
        monitored[relabeling["replacement"]] = [(pod.name, endpoint["port"]) for pod in pods]
    scraped = render(OVERLAYS / "cpu")
    assert monitored == {
        job["job_name"]: [(pod.name, port["name"]) for pod, port in targets(job, scraped)]
        for job in JOBS
    }


def test_triton_is_scaled_on_how_many_requests_wait(tmp_path: Path) -> None:
    """By promtool: two models' queues add up, an ensemble's is not counted again, and where nobody
    asks it is 0.
    """
    if shutil.which("promtool") is None:
        message = "no promtool on the PATH: install it with 'apt-get install -y prometheus'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    (query,) = autoscaler()
    record = {"record": "waiting", "expr": query.text}
    rules = {"groups": [{"name": "scaled", "rules": [record]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))

    def series(model: str, a_minute: int) -> dict[str, str]:
        labels = f'job="mtmh-triton", model="{model}"'
        return {
            "series": f"nv_inference_queue_duration_us{{{labels}}}",
            "values": f"0+{a_minute}x20",
        }

    # Half a second of waiting a second in one model, one and a half in the other.
    busy = [series("engagement_7", 30_000_000), series("relevance_7", 90_000_000)]
    busy.append(series("retrieve_relevance_7", 200_000_000))
    cases = [(busy, 2), ([series("engagement_7", 0)], 0)]
    tests = [
        {
            "interval": "1m",
            "input_series": given,
            "promql_expr_test": [
                {
                    "expr": "waiting",
                    "eval_time": "15m",
                    "exp_samples": [{"labels": "waiting", "value": value}],
                }
            ],
        }
        for given, value in cases
    ]
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests, "evaluation_interval": "1m"})
    )
    command = ["promtool", "test", "rules", str(tmp_path / "test.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_jobs_have_the_names_that_the_rules_ask_for() -> None:
    rules = (MONITORING / "prometheus" / "rules.yaml").read_text()
    laptop = yaml.safe_load(Path(MONITORING / "prometheus" / "prometheus.yaml").read_text())[
        "scrape_configs"
    ]
    asked = set(re.findall(r'job="([^"]+)"', rules))
    assert asked == {job["job_name"] for job in JOBS} == {job["job_name"] for job in laptop}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job["job_name"]))
def test_a_pod_that_has_ended_is_no_target(job: dict[str, Any]) -> None:
    """An evicted pod stays on the API's list, and would be down for ever."""
    (rule,) = [rule for rule in job["relabel_configs"] if rule.get("action") == "drop"]
    assert rule["source_labels"] == ["__meta_kubernetes_pod_phase"]
    phases = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
    dropped = {phase for phase in phases if re.fullmatch(rule["regex"], phase)}
    assert dropped == {"Pending", "Succeeded", "Failed"}
