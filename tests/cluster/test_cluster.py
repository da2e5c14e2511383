"""From `kubectl apply` to a served answer, on a real cluster: `make cluster-test`.

The cluster is the one of KUBECONFIG: kind on a laptop, or any other whose nodes have the images
(MTMH_IMAGE, MTMH_ROUTER_IMAGE, MTMH_TRITON_IMAGE, MTMH_S3_IMAGE). Kubeflow itself is not needed:
the compiled pipeline's steps run one after the other as the pods that it would make of them, under the
pipeline's account, with their artifacts in an S3-compatible bucket
(tests/helpers/cluster/kubeflow.py).
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.cluster.kubeflow import Kubeflow, Step
from helpers.cluster.site import IMAGES, TOKEN, Site

from mtmh.config import load_config
from pipelines import main
from pipelines.arguments import layers, on_cluster
from pipelines.kubeflow import compile_pipeline

pytestmark = [pytest.mark.cluster]
ACCOUNT = "mtmh-deploy"
# Small enough for minutes in all: the chain is what is tried here, not the method.
SMALL = ("data.synthetic.users=300", "data.synthetic.items=300", "cluster.volume_claim=mtmh")
# Asks the routers five times a second until it is ended; counts answers by version, errors apart.
LOAD = """
import collections, json, signal, sys, time, urllib.request
count, going = collections.Counter(), [True]
signal.signal(signal.SIGTERM, lambda *_: going.clear())
body = json.dumps({"triggers": [sys.argv[2]], "k": 10}).encode()
head = {"Authorization": "Bearer " + sys.argv[1], "Content-Type": "application/json"}
while going:
    try:
        request = urllib.request.Request("http://router:8080/v1/retrieve", data=body, headers=head)
        answer = json.load(urllib.request.urlopen(request, timeout=5))
        count["degraded" if answer.get("degraded") else "version " + str(answer["model_version"])] += 1
    except Exception as error:
        count[type(error).__name__ + " " + str(error)] += 1
    time.sleep(0.2)
print(json.dumps(count))
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The overlay in a namespace of its own, everything up; MTMH_KEEP leaves it there."""
    site = Site(f"mtmh-{uuid.uuid4().hex[:6]}")
    site.set_up()
    for server in ("redis", "s3", "mlflow", "triton"):
        site.wait(server, 300, lambda server=server: site.available(server))
    yield site
    print("\n".join(f"{seconds:7.1f} s  {what}" for what, seconds in site.seconds.items()))
    if not os.environ.get("MTMH_KEEP"):
        site.tear_down()


@pytest.fixture(scope="module")
def kubeflow(site: Site) -> Kubeflow:
    return Kubeflow(site.core, site.namespace, ACCOUNT, "http://s3:9000")


def run(site: Site, kubeflow: Kubeflow, folder: Path, *settings: str) -> dict[str, Step]:
    """A run of the main pipeline, compiled with these settings; seconds of each step are kept."""
    chosen = [*SMALL, f"cluster.namespace={site.namespace}", *settings]
    config = load_config(*layers("synthetic", "laptop", None), settings=chosen)
    compiled = folder / "pipeline.yaml"
    compile_pipeline(main.define(config.cluster), compiled)
    arguments = on_cluster(config, "http://mlflow:5000", "synthetic") | {"source": "synthetic"}
    steps = kubeflow.run(compiled, arguments)
    for name, step in steps.items():
        site.seconds[f"step {name} {' '.join(settings)}"] = round(step.seconds, 1)
    return steps


@contextmanager
def asked_all_the_while(site: Site) -> Iterator[dict[str, int]]:
    """Requests of a client's pod while this is open; what came back, counted, when it is closed."""
    counted: dict[str, int] = {}
    command = ["python3", "-c", LOAD, TOKEN, an_item(site)]
    site.start_pod("load", IMAGES["mtmh-python"], command, labels={"mtmh/client": "true"})
    yield counted
    site.kubectl("exec", "load", "--", "python3", "-c", "import os; os.kill(1, 15)")
    counted.update(json.loads(site.log_of("load")))


def an_item(site: Site) -> str:
    """An item that the routers know."""
    answer = site.ask("/v1/items?limit=1")
    return str(answer["items"][0]["item_id"])


def test_before_the_first_version_triton_is_ready_and_the_routers_wait(site: Site) -> None:
    pods = site.kubectl("get", "pods", "-l", "app.kubernetes.io/component=router", "-o", "name")
    assert pods
    restarts = site.kubectl(
        "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"
    )
    assert set(restarts.split()) == {"0"}


@pytest.mark.parametrize(
    ("verb", "group", "resource", "name", "may"),
    [
        ("get", "apps", "deployments", "triton", True),
        ("patch", "apps", "deployments", "triton", True),
        ("list", "", "pods", "", True),
        ("get", "", "configmaps", "router", True),
        # What Kubeflow's drivers and launchers do in the account's name.
        ("get", "", "configmaps", "kfp-launcher", True),
        ("get", "", "secrets", "mlpipeline-minio-artifact", True),
        ("get", "", "pods", "", True),
        ("create", "argoproj.io", "workflowtaskresults", "", True),
        ("patch", "argoproj.io", "workflowtaskresults", "", True),
        ("patch", "apps", "deployments", "router", False),
        ("get", "", "secrets", "router", False),
        ("delete", "", "pods", "", False),
    ],
)
def test_the_pipelines_account_has_the_rights_of_a_step_and_of_a_rollout_alone(
    site: Site, verb: str, group: str, resource: str, name: str, may: bool
) -> None:
    assert site.can(ACCOUNT, verb, group, resource, name) is may


def test_a_run_reaches_a_served_answer(site: Site, kubeflow: Kubeflow, tmp_path: Path) -> None:
    steps = run(site, kubeflow, tmp_path)
    assert "version 1 is the champion" in steps["deploy"].log
    site.wait("routers", 60, lambda: site.available("router"))
    answer = site.ask("/v1/retrieve", {"triggers": [an_item(site)], "k": 10})
    assert (answer["model_version"], len(answer["candidates"])) == ("1", 10)


def test_a_second_version_comes_while_requests_go_on(
    site: Site, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    with asked_all_the_while(site) as counted:
        steps = run(site, kubeflow, tmp_path, "seed=1")
    assert "version 2 is the champion" in steps["deploy"].log
    assert set(counted) == {"version 1", "version 2"}, counted


def test_the_same_run_again_is_made_of_the_cache(
    site: Site, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    """Nothing is trained, and the same retriever is the same version. It is measured beside the
    champion, which is another one by now."""
    steps = run(site, kubeflow, tmp_path, "seed=1")
    made = {name for name, step in steps.items() if not step.cached}
    assert made == {*main.NEVER_CACHED, "evaluate"}
    assert "version 2 is the champion" in steps["deploy"].log


def test_a_version_that_the_gate_rejects_never_serves(
    site: Site, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    steps = run(site, kubeflow, tmp_path, "seed=2", "gate.min_coverage=1.0", "retrieval.pool=20")
    assert "deploy" not in steps
    answer = site.ask("/v1/retrieve", {"triggers": [an_item(site)], "k": 10})
    assert answer["model_version"] == "2"


def test_a_step_whose_pod_is_gone_is_tried_again(
    site: Site, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    removed: list[str] = []

    def remove_once(step: str, pod: str) -> None:
        if step == "train" and not removed:
            removed.append(pod)
            site.wait("training", 60, lambda: "train:" in site.kubectl("logs", pod))
            site.core.delete_namespaced_pod(pod, site.namespace, grace_period_seconds=0)

    kubeflow.on_pod = remove_once
    steps = run(site, kubeflow, tmp_path, "seed=3", "train.epochs=20")
    kubeflow.on_pod = None
    assert (len(removed), steps["train"].attempts) == (1, 2)
