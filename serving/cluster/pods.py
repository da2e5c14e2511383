"""What a rollout asks of a cluster: which versions Triton's pods load, and what its pods and the
routers say.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from mtmh.errors import UserError
from serving.triton.served import Served

VERSIONS = "mtmh/versions"  # annotation of Triton's pods: the versions that they load, "7 8"
TRITON = "triton"  # the Deployment, and the component of its pods
ROUTER = "router"  # component of the routers' pods, and the ConfigMap with their router.yaml
SELECTOR = "app.kubernetes.io/part-of=mtmh,app.kubernetes.io/component={}"
RETRYABLE = (409, 429, 500, 502, 503, 504)  # answers of the API that another try may mend
OUT_OF_REACH = 120.0  # seconds that the API may be
LONGEST = 1000  # characters of a pod's last words
CAUSES = ("failed to load", "error:")  # a line of Triton's log that says what went wrong has one
ENDED = ("Succeeded", "Failed")  # phases of a pod that answers nobody any more

Answer = TypeVar("Answer")


class RolloutError(RuntimeError):
    """The new version does not serve; the message says why, and what serves."""


class OvertakenError(RolloutError):
    """Somebody else told Triton what to load."""


def connected(context: str = "") -> client.ApiClient:
    """A client of the cluster around this pod or, outside of one, of the one that kubectl speaks
    to, by its current context or the one named.
    """
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config(context=context or None)
        except config.ConfigException as error:
            raise UserError(
                f"no cluster to speak to: this is no pod, and kubectl's own settings do not name"
                f" one ({error})."
            ) from None
    return client.ApiClient()


@dataclass(frozen=True)
class Cluster:
    """The namespace that serves. Triton, then the routers, may take `seconds` each; `pause` is
    between two looks.
    """

    api: client.ApiClient
    namespace: str
    seconds: float = 1800.0
    pause: float = 2.0
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(timeout=3.0, retries=False)
    )

    def loaded(self) -> list[str] | None:
        """The versions that Triton is told to load, None where it never was."""
        return _annotated(self._triton().spec.template.metadata)

    def load(self, versions: list[str] | None, loaded: list[str] | None) -> None:
        """Make Triton load `versions` (None: as if never told) where it was told `loaded`, and wait
        until every pod that answers has, those included that are about to go.

        Raises OvertakenError when it was told something else, RolloutError when it does not come
        up, UserError when the cluster refuses.
        """

        def change() -> None:
            triton = client.AppsV1Api(self.api).read_namespaced_deployment(TRITON, self.namespace)
            current = _annotated(triton.spec.template.metadata)
            if current not in (versions, loaded):
                raise OvertakenError(f"somebody else told Triton to load {current}")
            text = None if versions is None else " ".join(versions)
            body = {
                # 409 where it was changed meanwhile.
                "metadata": {"resourceVersion": triton.metadata.resource_version},
                "spec": {"template": {"metadata": {"annotations": {VERSIONS: text}}}},
            }
            client.AppsV1Api(self.api).patch_namespaced_deployment(TRITON, self.namespace, body)

        def missing() -> str:
            triton = self._triton()
            current = _annotated(triton.spec.template.metadata)
            if current != versions:
                raise OvertakenError(f"somebody else told Triton to load {current}")
            return pending(triton) or self._outdated(versions)

        self.with_retries(change)
        self._wait("Triton's pods", missing)

    def wait_for_routers(self, served: Served, champion_named_us: int) -> None:
        """Return once every router that is ready, or waits for these versions, serves them, and
        there is one.

        Raises RolloutError when that takes too long, or a router refuses a version since it was
        named: `champion_named_us` (store.champion_named_us) is the naming that counts.
        """
        # A canary is what is new, where there is one.
        version = served.canary or served.champion

        def missing() -> str:
            late, serving = [], 0
            for pod in self._pods(ROUTER):
                if pod.metadata.deletion_timestamp is not None:
                    continue
                name, health = pod.metadata.name, self._health(pod)
                why = health.get("refused", {}).get(version, "")
                # Until a router has looked at the champion again, it tells of an earlier naming.
                if why and health.get("champion_named_us") == champion_named_us:
                    raise RolloutError(f"{name} refuses it: {why}")
                current = Served(
                    health.get("model_version") or "",
                    health.get("canary") or "",
                    health.get("canary_share") or 0.0,
                )
                if health.get("ready") and current == served:
                    serving += 1
                elif what := health.get("waiting", {}).get(version):
                    late.append(f"{name} waits {what}")
                elif health.get("ready"):
                    also = f" and canary {current.canary}" if current.canary else ""
                    other = f"{current.champion or 'nothing'}{also}"
                    late.append(f"{name} serves {other}" + (f", refused it: {why}" if why else ""))
            return ", ".join(late) or ("" if serving else "none is ready")

        self._wait("the routers", missing)

    def arms(self) -> list[dict[str, Any]]:
        """The arms of a running experiment, as the routers' configuration has them."""
        core = client.CoreV1Api(self.api)
        config_map = self.with_retries(
            lambda: core.read_namespaced_config_map(ROUTER, self.namespace)
        )
        settings = yaml.safe_load(config_map.data["router.yaml"])
        return (settings.get("experiment") or {}).get("arms") or []

    def container_errors(self) -> str:
        """Why Triton's pods do not run, in the cluster's words; empty where they say nothing."""
        errors = []
        for pod in self._pods(TRITON):
            if pod.metadata.deletion_timestamp is not None:
                continue
            for container in pod.status.container_statuses or []:
                waiting = container.state.waiting if container.state else None
                ended = container.last_state.terminated if container.last_state else None
                # Kubernetes' reason, and the last words of the process before.
                words = [
                    f"{waiting.reason}" if waiting else "",
                    last_words(ended.message or "") if ended else "",
                ]
                if error := ": ".join(word for word in words if word):
                    errors.append(f"{pod.metadata.name}: {error}")
        return "; ".join(errors)

    def _triton(self) -> client.V1Deployment:
        return self.with_retries(
            lambda: client.AppsV1Api(self.api).read_namespaced_deployment(TRITON, self.namespace)
        )

    def _outdated(self, versions: list[str] | None) -> str:
        """The pods of Triton without this annotation, empty where all have it. A Deployment does
        not count those that are terminating, and they answer the routers for some time more.
        """
        old = [
            pod.metadata.name
            for pod in self._pods(TRITON)
            if _annotated(pod.metadata) != versions and pod.status.phase not in ENDED
        ]
        return f"{', '.join(old)} must end first" if old else ""

    def _pods(self, component: str) -> list[client.V1Pod]:
        """All pods of a component, those that are terminating too."""
        selector = SELECTOR.format(component)
        core = client.CoreV1Api(self.api)
        pods: list[client.V1Pod] = self.with_retries(
            lambda: core.list_namespaced_pod(self.namespace, label_selector=selector)
        ).items
        return pods

    def _health(self, pod: client.V1Pod) -> dict[str, Any]:
        """What a router answers to /readyz; `ready` is whether it takes traffic. Empty where it
        does not answer.
        """
        ports = [
            port
            for container in pod.spec.containers
            for port in container.ports or []
            if port.name == "http"
        ]
        address = pod.status.pod_ip
        if not (address and ports):
            return {}
        host = f"[{address}]" if ":" in address else address  # IPv6 in brackets
        try:
            answer = self.http.request("GET", f"http://{host}:{ports[0].container_port}/readyz")
            return {**json.loads(answer.data), "ready": answer.status == 200}
        except (urllib3.exceptions.HTTPError, ValueError):
            return {}

    def with_retries(self, call: Callable[[], Answer]) -> Answer:
        """What `call` returns, called again while the API is out of reach or busy."""
        end = time.monotonic() + min(self.seconds, OUT_OF_REACH)
        while True:
            try:
                return call()
            except (ApiException, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, ApiException) and error.status not in RETRYABLE:
                    raise UserError(
                        f"the cluster refuses: {_words(error)} (namespace {self.namespace})"
                    ) from None
                if time.monotonic() > end:
                    raise RolloutError(f"the cluster does not answer: {_words(error)}") from error
            time.sleep(self.pause)

    def _wait(self, who: str, missing: Callable[[], str]) -> None:
        end = time.monotonic() + self.seconds
        while what := missing():
            if time.monotonic() > end:
                raise RolloutError(f"{who}, after {self.seconds:.0f} s: {what}")
            time.sleep(self.pause)


def last_words(message: str) -> str:
    """The end of a container's log in at most LONGEST characters, on one line: first the lines that
    tell a cause, which much may follow, then the last of the others.
    """
    lines = [" ".join(line.split()) for line in message.splitlines()]
    causes = [line for line in lines if any(cause in line.lower() for cause in CAUSES)]
    first = " ".join(causes)[:LONGEST]
    rest = " ".join(line for line in lines if line and line not in causes)
    return f"{first} {rest[max(len(rest) + len(first) + 1 - LONGEST, 0) :]}".strip()


def pending(deployment: client.V1Deployment) -> str:
    """What a rollout still waits for, empty when it is over; as `kubectl rollout status` sees it.

    Raises RolloutError when the cluster has given it up.
    """
    status, wanted = deployment.status, deployment.spec.replicas
    if (status.observed_generation or 0) < deployment.metadata.generation:
        return "the change is not taken up"
    for condition in status.conditions or []:
        if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
            raise RolloutError(f"Triton's pods: {condition.message}")
    new, available = status.updated_replicas or 0, status.available_replicas or 0
    if new < wanted:
        return f"{new} of {wanted} are new"
    if (status.replicas or 0) > new:
        return f"{(status.replicas or 0) - new} old ones are still ending"
    return "" if available >= new else f"{available} of {new} are available"


def _annotated(metadata: client.V1ObjectMeta) -> list[str] | None:
    """The versions in the annotation of a pod, or of a Deployment's template of pods."""
    text = (metadata.annotations or {}).get(VERSIONS)
    return None if text is None else text.split()


def _words(error: Exception) -> str:
    """The API's own message, where it sent one."""
    try:
        return str(json.loads(getattr(error, "body", None) or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error).strip().splitlines()[0]
