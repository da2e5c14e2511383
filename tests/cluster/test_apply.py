"""The short form, in every test run that has a cluster: what the real API server says to the overlays
and the account, and that everything comes up with nothing to serve.
"""

import pytest
from helpers.cluster.kubeflow import ACCOUNT
from helpers.cluster.site import ROOT, Site

OVERLAYS = sorted(path.parent.name for path in ROOT.glob("k8s/overlays/*/kustomization.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_the_overlay(site: Site, overlay: str) -> None:
    """Kinds that this cluster does not have (operators' own) are left out."""
    objects = site.rendered(overlay)
    known = [body for body in objects if site.has(body)]
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
