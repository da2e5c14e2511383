"""The short form, in every test run that has a cluster: what the real API server says to the overlays
and the account, and that everything comes up with nothing to serve.
"""

import pytest
from helpers.cluster.kubeflow import ACCOUNT
from helpers.cluster.site import IMAGES, ROOT, Site

from mtmh.config import ClusterSettings
from pipelines.preflight import preflight

PREFLIGHT = {"volume_claim": "mtmh", "service_account": ACCOUNT, "local_images": True}
BUCKET = {"object_secret": "object-store", "scratch": "s3://mlpipeline/scratch"}
OVERLAYS = sorted(path.parent.name for path in ROOT.glob("k8s/overlays/*/kustomization.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_the_overlay(site: Site, overlay: str) -> None:
    """As into a namespace without any; kinds that this cluster does not have (operators' own) are
    left out."""
    objects = site.rendered(overlay)
    known = [body for body in objects if site.has(body)]
    for body in known:
        body["metadata"]["namespace"] = "default"
    if known:
        site.apply(*known, dry_run=True)
    unknown = {body["kind"] for body in objects} - {body["kind"] for body in known}
    print(f"{overlay}: {len(known)} objects taken; this cluster has no {sorted(unknown)}")
    assert known or unknown


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
        ("create", "coordination.k8s.io", "leases", "", True),
        ("update", "coordination.k8s.io", "leases", "mtmh-deploy", True),
        ("update", "coordination.k8s.io", "leases", "another", False),
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


@pytest.fixture
def step_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.preflight.IMAGE", IMAGES["mtmh-python"])


@pytest.mark.usefixtures("step_image")
def test_a_run_would_find_all_that_it_needs(site: Site) -> None:
    settings = ClusterSettings(namespace=site.namespace, **(PREFLIGHT | BUCKET))
    findings = preflight(settings, "http://mlflow:5000", site.core.api_client)
    assert [finding for finding in findings if finding.problem] == []
    needs = " ".join(finding.need for finding in findings)
    for need in (
        "claim mtmh",
        "account mtmh-deploy",
        "volume at",
        "store s3://",
        "MLflow",
        "Redis",
        "rights",
    ):
        assert need in needs


@pytest.mark.usefixtures("step_image")
@pytest.mark.parametrize(
    ("changed", "tracking_uri", "words"),
    [
        ({"volume_claim": "other"}, "http://mlflow:5000", "claim other in namespace"),
        ({"service_account": "other"}, "http://mlflow:5000", "account other in namespace"),
        ({"service_account": "default"}, "http://mlflow:5000", "it may not get configmaps"),
        (
            BUCKET | {"store": "s3://nowhere/serving"},
            "http://mlflow:5000",
            "no such bucket: make it",
        ),
        (BUCKET | {"object_secret": "other"}, "http://mlflow:5000", "Secret other in namespace"),
        ({}, "http://mlflow:5001", "MLflow at http://mlflow:5001: no answer"),
        ({}, "sqlite:///x.db", "no server's URL"),
    ],
)
def test_what_a_run_would_not_find_is_said_before_it_starts(
    site: Site, changed: dict[str, str], tracking_uri: str, words: str
) -> None:
    settings = ClusterSettings(namespace=site.namespace, **(PREFLIGHT | changed))
    findings = preflight(settings, tracking_uri, site.core.api_client)
    problems = [f"{finding.need}: {finding.problem}" for finding in findings if finding.problem]
    assert len(problems) == 1
    assert words in problems[0]


def test_an_image_that_no_node_can_pull_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.preflight.IMAGE", "localhost/not-there:1")
    settings = ClusterSettings(namespace=site.namespace, **PREFLIGHT)
    findings = preflight(settings, "http://mlflow:5000", site.core.api_client)
    assert "no node can pull it" in findings[-1].problem
    assert findings[-1].need == "image localhost/not-there:1"
