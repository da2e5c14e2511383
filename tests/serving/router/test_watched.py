"""Rules and dashboards on a real router and Triton: every name is told, every query answers, an
alert begins.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from helpers.live_router import Router, RouterFolder, Run, dated, eventually, remove
from helpers.processes import free_ports
from tritonclient.grpc import InferenceServerClient

from monitoring.prometheus.queries import (
    MONITORING,
    OF_A_GPU,
    Query,
    autoscaler,
    dashboards,
    exported,
    names,
    rules,
    unknown,
)
from serving.triton.export import write_package
from serving.triton.management import headers
from serving.triton.store import install, promote

NAMING = ("alertname", "part", "head")
ASKED = {"user_id": "u03", "triggers": ["i00", "i11", "i25"], "k": 12}


@pytest.fixture
def of_today(place: RouterFolder, tmp_path: Path) -> Iterator[None]:
    """The champion is version 42, whose newest item is an hour old; the small world's items have no
    dates.
    """
    retriever = dated(
        place.retrievers["1"], tmp_path / "dated", [datetime.now(UTC) - timedelta(hours=1)]
    )
    install(write_package(retriever, "42", tmp_path / "package"), place.store)
    promote(place.store, "42")
    yield
    promote(place.store, "1")
    remove(place.store, "42")


@pytest.mark.usefixtures("of_today")
def test_every_name_in_rules_and_dashboards_is_told(run_router: Run, place: RouterFolder) -> None:
    queries = [*rules(), *dashboards(), *autoscaler()]
    assert len(queries) > 60
    with run_router() as router:
        router.retrieve(**ASKED)
        pages = [
            router.client.get("/metrics").text,
            httpx.get(f"http://127.0.0.1:{place.ports.metrics}/metrics").text,
        ]
    assert unknown(queries, exported(*pages)) == []
    lines = unknown(queries, exported(pages[0]))  # and would be missed
    assert {line.split()[-1] for line in lines} >= {
        "nv_inference_request_success",
        "nv_cpu_utilization",
        "nv_inference_queue_duration_us",
    }


class Prometheus:
    """A running Prometheus' own interface."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def is_ready(self) -> bool:
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, path: str, **asked: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=asked).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query: str) -> dict[tuple[tuple[str, str], ...], float]:
        """What an instant query gives, by labels."""
        found = self.ask("query", query=query.replace("$__rate_interval", "1m"))["result"]
        return {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in found}

    def alerts(self) -> dict[str, str]:
        """Name and part of each active alert: its state."""
        found = self.ask("alerts")["alerts"]
        return {
            " ".join(each["labels"][name] for name in NAMING if name in each["labels"]): each[
                "state"
            ]
            for each in found
        }


@contextmanager
def prometheus(folder: Path, router: int, triton: int) -> Iterator[Prometheus]:
    """The real one, with the shipped rules and configuration but for ports and a shorter
    interval.
    """
    told = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yaml").read_text())
    told["global"] = {
        "scrape_interval": "500ms",
        "scrape_timeout": "500ms",
        "evaluation_interval": "500ms",
    }
    told["rule_files"] = [str(MONITORING / "prometheus" / name) for name in told["rule_files"]]
    for job, port in zip(told["scrape_configs"], (router, triton), strict=True):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
    port = free_ports(1)[0]
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            running = Prometheus(client)
            eventually(
                lambda: running.is_ready() or server.poll() is not None, "Prometheus is ready"
            )
            assert server.poll() is None, (folder / "prometheus.log").read_text()
            eventually(lambda: len(running.values("up == 1")) == 2, "router and Triton are scraped")
            yield running
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0


@dataclass(frozen=True)
class Watched:
    """A router that does not look after a head again, and who watches it."""

    router: Router
    triton: InferenceServerClient
    prometheus: Prometheus
    log: Path

    def work(self, count: int) -> None:
        for _ in range(count):
            self.router.retrieve(**ASKED)
            self.router.post(
                "/v1/engagements", {"engagements": [{"user_id": "u03", "item_id": "i00"}]}
            )


@pytest.fixture
def watched(
    of_today: None, run_router: Run, place: RouterFolder, tmp_path: Path
) -> Iterator[Watched]:
    if shutil.which("prometheus") is None:
        message = "no prometheus on the PATH: install it with 'apt-get install -y prometheus'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    log = tmp_path / "log"
    with (
        run_router(f"log.directory={log}", "triton.poll_seconds=600") as router,
        InferenceServerClient(f"127.0.0.1:{place.ports.grpc}") as triton,
        prometheus(tmp_path, router.port, place.ports.metrics) as watching,
    ):
        yield Watched(router, triton, watching, log)


def test_a_real_prometheus_takes_the_rules_and_sees_the_log_go(watched: Watched) -> None:
    watching = watched.prometheus

    def taken() -> list[dict[str, Any]]:
        return [rule for group in watching.ask("rules")["groups"] for rule in group["rules"]]

    assert len(taken()) == len(list(rules()))
    eventually(
        lambda: {rule["health"] for rule in taken()} == {"ok"},
        "every rule was evaluated without an error",
    )
    eventually(lambda: watching.alerts() == {}, "nothing to wake anybody for")

    shutil.rmtree(watched.log)
    for _ in range(20):
        assert not watched.router.retrieve(**ASKED)["exposure_logged"]
    eventually(
        lambda: watching.alerts() == {"MtmhLogNotWritable": "pending"}, "the log's alert begins"
    )
    watched.log.mkdir()
    watched.work(10)  # it writes again


def test_a_real_prometheus_answers_every_query_and_sees_a_head_go(
    watched: Watched, place: RouterFolder
) -> None:
    watching = watched.prometheus
    watched.work(10)
    eventually(lambda: watching.values("mtmh:answers:rate5m > 0"), "the answers are seen")
    for query in dashboards():
        eventually(
            lambda query=query: answers(watching, query), f"an answer to {query}", seconds=20
        )
    assert 0 < sum(watching.values("mtmh:index_age_seconds").values()) < 86400
    both = watching.values("mtmh:head:share")
    assert sum(both.values()) == pytest.approx(1)
    assert {dict(labels)["head"] for labels in both} == {"engagement", "relevance"}
    assert max(map(abs, watching.values("mtmh:head:off_alpha").values())) < 0.05

    secret = headers(place.triton.secret)
    watched.triton.unload_model("retrieve_relevance_42", headers=secret)
    watched.work(200)  # five minutes' mean must be above one answer in two seconds
    eventually(lambda: "MtmhHeadGone relevance" in watching.alerts(), "the alert begins")
    # A probe asks, whether or not anybody else does.
    eventually(lambda: "MtmhHeadSilent relevance" in watching.alerts(), "the silence is told")
    alerts = watching.alerts()  # pending for five minutes
    assert alerts["MtmhHeadGone relevance"] == alerts["MtmhDegraded relevance"] == "pending"
    assert "MtmhDegraded engagement" not in alerts
    eventually(
        lambda: watching.values('mtmh:head:off_alpha{head="relevance"} < -0.1'),
        "alpha is not kept",
    )
    watched.triton.load_model("retrieve_relevance_42", headers=secret)


def answers(watching: Prometheus, query: Query) -> bool:
    """Whether a query gives anything, with every label that its legend shows."""
    asked = names(query.text)[0]
    if "ALERTS" in asked or OF_A_GPU.keys() & asked:
        return True  # nothing fires; no GPU is here
    found = watching.values(query.text)
    return bool(found) and all(set(query.shows) <= set(dict(labels)) for labels in found)
