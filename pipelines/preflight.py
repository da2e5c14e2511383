"""Before a run on a cluster: does it find all it needs there? A pod as a step's says so.

Kubeflow takes any run; one whose claim, account or image is not there would wait for ever in a pod
that never starts.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components import IMAGE
from components.probe import MARK, Finding
from mtmh.config import ClusterSettings
from mtmh.errors import UserError
from mtmh.object_store import is_url
from pipelines.kubeflow import OBJECT_STORE_KEYS

# Reasons by which a container waits and will not start by itself.
STUCK = {
    "ErrImagePull": f"no node can pull it. Push {IMAGE}, or name another by MTMH_IMAGE; for a"
    " private registry give the account an imagePullSecret.",
    "InvalidImageName": "that is no name of an image: set MTMH_IMAGE.",
    "CreateContainerConfigError": "a Secret or key that it reads is not there.",
}
STUCK["ImagePullBackOff"] = STUCK["ErrImagePull"]


def preflight(
    cluster: ClusterSettings, tracking_uri: str, api: client.ApiClient, seconds: float = 120.0
) -> list[Finding]:
    """What a run with these settings finds in its namespace, each thing with what is wrong with it.

    A pod that does not start within `seconds` is a finding. Raises UserError when `cluster` names
    no namespace, or who asks may not look there.
    """
    namespace = cluster.kubeflow_namespace or cluster.namespace
    if not namespace:
        raise UserError("in which namespace? Write --set cluster.namespace=NAME.")
    core = client.CoreV1Api(api)
    try:
        objects = list(_objects(core, namespace, cluster))
        if any(finding.problem for finding in objects):
            return objects  # no pod would start
        return objects + _tried(core, namespace, cluster, tracking_uri, seconds)
    except ApiException as error:
        raise UserError(
            f"the cluster refuses to say what is in the namespace {namespace}: {error.reason}. Who"
            " asks must be allowed to read claims, accounts and Secrets and to start a pod there."
        ) from None


def _objects(core: client.CoreV1Api, namespace: str, cluster: ClusterSettings) -> Iterator[Finding]:
    """What the pod of a step names."""
    wanted = (
        ("claim", core.read_namespaced_persistent_volume_claim, cluster.volume_claim),
        ("account", core.read_namespaced_service_account, cluster.service_account or "default"),
        ("Secret", core.read_namespaced_secret, "redis" if cluster.namespace else ""),
        ("Secret", core.read_namespaced_secret, cluster.object_secret),
        ("Secret", core.read_namespaced_secret, cluster.mlflow_secret),
    )
    for kind, read, name in wanted:
        if not name:
            continue
        problem = ""
        try:
            read(name, namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            problem = "it is not there. kubectl apply -k k8s/overlays/..., as k8s/README.md has it."
        yield Finding(f"{kind} {name} in namespace {namespace}", problem)


def _tried(
    core: client.CoreV1Api,
    namespace: str,
    cluster: ClusterSettings,
    tracking_uri: str,
    seconds: float,
) -> list[Finding]:
    """What a pod finds that runs as a step's would."""
    with _pod(core, namespace, cluster, tracking_uri) as name:
        end, image = time.monotonic() + seconds, f"image {IMAGE}"
        while (pod := core.read_namespaced_pod(name, namespace)).status.phase == "Pending":
            if stuck := waits_for_ever(pod):
                return [Finding(image, stuck)]
            if time.monotonic() > end:
                return [Finding("a pod as a step's", _events(core, namespace, name, seconds))]
            time.sleep(1.0)
        while pod.status.phase == "Running":
            time.sleep(0.5)
            pod = core.read_namespaced_pod(name, namespace)
        log = core.read_namespaced_pod_log(name, namespace, _preload_content=False).data.decode()
    said = [line for line in log.splitlines() if line.startswith(MARK)]
    if not said:
        return [Finding(image, f"it does not run: {log.strip().splitlines()[-1:] or 'no word'}")]
    findings: list[dict[str, Any]] = json.loads(said[0].removeprefix(MARK))
    return [Finding(image), *(Finding(**finding) for finding in findings)]


@contextmanager
def _pod(
    core: client.CoreV1Api, namespace: str, cluster: ClusterSettings, tracking_uri: str
) -> Iterator[str]:
    """A pod with the image, account, volume and Secrets of a step, while this is open; its name."""
    name = f"preflight-{uuid.uuid4().hex[:6]}"
    given = {
        "volume": cluster.volume if cluster.volume_claim else "",
        "tracking_uri": tracking_uri,
        "namespace": namespace,
        "serves": bool(cluster.namespace),
        "stores": [url for url in (cluster.scratch, cluster.store) if is_url(url)],
    }
    container: dict[str, Any] = {
        "name": "probe",
        "image": IMAGE,
        "command": ["python", "-m", "components.probe", json.dumps(given)],
    }
    # The label lets it reach what serves (k8s/base/network.yaml).
    body: dict[str, Any] = {
        "metadata": {"name": name, "labels": {"mtmh/step": "histories"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    if cluster.service_account:
        body["spec"]["serviceAccountName"] = cluster.service_account
    if cluster.volume_claim:
        claim = {"claimName": cluster.volume_claim}
        container["volumeMounts"] = [{"name": "volume", "mountPath": cluster.volume}]
        body["spec"]["volumes"] = [{"name": "volume", "persistentVolumeClaim": claim}]
    container["env"] = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key} | optional}}
        for secret, keys, optional in (
            ("redis" if cluster.namespace else "", {"connection": "REDIS_CONNECTION"}, {}),
            (cluster.object_secret, OBJECT_STORE_KEYS, {"optional": True}),
        )
        if secret
        for key, variable in keys.items()
    ]
    core.create_namespaced_pod(namespace, body)
    try:
        yield name
    finally:
        core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)


def waits_for_ever(pod: client.V1Pod) -> str:
    """Why the pod will not start by itself; empty where it may."""
    for status in pod.status.container_statuses or []:
        waiting = status.state.waiting
        if waiting and waiting.reason in STUCK:
            return f"{waiting.reason}: {STUCK[waiting.reason]} ({waiting.message})"
    return ""


def _events(core: client.CoreV1Api, namespace: str, name: str, seconds: float) -> str:
    """What the cluster says of a pod that does not start."""
    selector = f"involvedObject.name={name}"
    events = core.list_namespaced_event(namespace, field_selector=selector).items
    words = [f"{event.reason}: {event.message}" for event in events if event.type == "Warning"]
    return f"it does not start in {seconds:.0f} s. {'; '.join(words) or 'No event says why.'}"
