"""Trouble on a real cluster while requests go on: many rollouts, pods deleted, servers gone for a
minute. A part of `make cluster-test`.
"""

import json
import os
import subprocess
import time
from datetime import UTC, datetime

import pytest
from helpers.cluster.kubeflow import ACCOUNT, Kubeflow, Run
from helpers.cluster.load import load
from helpers.cluster.site import Site

pytestmark = [pytest.mark.cluster]
VOLUME = "/mnt/mtmh"
ROLLOUTS = 20
MINUTE = 60.0
GRACE = 40.0  # seconds without a word of a node until it is not ready (node-monitor-grace-period)
# Two runs give two retrievers; each is packaged under new numbers in turn and rolled out as the
# step deploy does it.
RUNS = """
import subprocess
for seed in ("0", "1"):
    small = ["--set", "data.synthetic.users=300", "--set", "data.synthetic.items=300"]
    subprocess.run(["mtmh", "run", "--seed", seed, *small, "--runs", f"/mnt/mtmh/two/{seed}"], check=True)
"""
ROLL = """
import json, pathlib, sys, tempfile, time
from serving.cluster.pods import Cluster, connected
from serving.cluster.rollout import roll_out
from serving.triton.export import write_package
from serving.triton.store import install, retire
namespace, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store, seconds = pathlib.Path("/mnt/mtmh/runs/serving/synthetic"), []
for number in range(first, first + count):
    started = time.monotonic()
    run = pathlib.Path(f"/mnt/mtmh/two/{number % 2}/latest").resolve()
    with tempfile.TemporaryDirectory() as folder:
        package = write_package(run, str(number), pathlib.Path(folder) / "package")
        install(package, store)
    retire(store, needed=roll_out(store, str(number), Cluster(connected(), namespace)))
    seconds.append(round(time.monotonic() - started, 1))
    print("rolled out", number, seconds[-1], flush=True)
print(json.dumps(seconds))
"""


@pytest.fixture(scope="module", autouse=True)
def served(site: Site, kubeflow: Kubeflow) -> None:
    """A version serves."""
    site.run_step_pod("two-runs", ["python3", "-c", RUNS], ACCOUNT, seconds=600)
    site.run_step_pod("first", ["python3", "-c", ROLL, site.namespace, "101", "1"], ACCOUNT)
    site.wait("routers", 120, lambda: site.available("router"))


def test_many_rollouts_under_load_fail_no_request_and_mix_no_answer(site: Site) -> None:
    with load(site) as answers:
        command = ["python3", "-c", ROLL, site.namespace, "102", str(ROLLOUTS)]
        log = site.run_step_pod("roll", command, ACCOUNT, seconds=120 * ROLLOUTS)
    seconds = json.loads(log.splitlines()[-1])
    print(f"{ROLLOUTS} rollouts of {min(seconds)} to {max(seconds)} s: {answers}")
    assert len(answers.versions) >= ROLLOUTS
    assert (answers.failures, answers.degraded, answers.mixed()) == ({}, 0, {})


@pytest.mark.parametrize("component", ["triton", "router"])
def test_a_pod_that_is_deleted_is_not_missed(site: Site, component: str) -> None:
    with load(site) as answers:
        site.delete_a_pod(component)
        site.wait(f"{component} healed", 300, lambda: site.available(component))
        time.sleep(5)  # its successor has traffic
    print(f"a pod of {component} deleted: {answers}")
    assert (answers.failures, answers.mixed()) == ({}, {})


def test_without_redis_items_are_answered_as_before(site: Site) -> None:
    """Requests by triggers need no history."""
    with load(site) as answers:
        site.kubectl("exec", "redis-0", "--", "sh", "-c", "rm -rf /data/*")
        site.delete_a_pod("redis")
        site.wait("redis healed", 300, lambda: site.available("redis"))
    print(f"Redis deleted, back empty: {answers}")
    assert (answers.failures, answers.degraded, answers.mixed()) == ({}, 0, {})


def test_a_bucket_that_is_gone_for_a_minute_is_waited_for(
    site: Site, kubeflow: Kubeflow, run: Run
) -> None:
    """The step that could not read or write its artifacts is tried again."""
    gone: list[str] = []

    def take_away_once(step: str, pod: str) -> None:
        if step == "pairs" and not gone:
            gone.append(pod)
            site.s3_away(MINUTE)

    kubeflow.on_pod = take_away_once
    steps = run("seed=5")
    kubeflow.on_pod = None
    assert steps["pairs"].attempts > 1
    assert "is the champion" in steps["deploy"].log


@pytest.mark.parametrize(("seconds", "seed"), [(GRACE - 10, 6), (MINUTE, 7)])
def test_an_api_server_that_is_gone_is_waited_for(
    site: Site, kubeflow: Kubeflow, run: Run, seconds: float, seed: int
) -> None:
    """Nothing that serves asks it; the step deploy goes on when it is back. What has not heard of
    a node for GRACE takes it out of every Service for a moment then, whatever runs there."""
    stop, start = os.environ.get("MTMH_API_STOP"), os.environ.get("MTMH_API_START")
    if not (stop and start):
        pytest.skip("MTMH_API_STOP and MTMH_API_START are no commands that stop and start it")
    gone: list[datetime] = []

    def take_away_once(step: str, pod: str) -> None:
        if step == "deploy" and not gone:
            gone.append(datetime.now(UTC))
            subprocess.run(stop, shell=True, check=True)
            time.sleep(seconds)
            subprocess.run(start, shell=True, check=True)

    with load(site) as answers:
        kubeflow.on_pod = take_away_once
        steps = run(f"seed={seed}")
        kubeflow.on_pod = None
    print(f"the API server gone for {seconds:.0f} s: {answers}")
    assert "is the champion" in steps["deploy"].log
    assert (answers.degraded, answers.mixed()) == (0, {})
    refused = {text for text in answers.failures if "refused" in text or "Name" in text}
    assert set(answers.failures) == refused
    assert not refused or site.nodes_not_ready_since(gone[0])
