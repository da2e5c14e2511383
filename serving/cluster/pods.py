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

VERSIONS = "mtmh/versions"  # annotation of Triton's pods: the versions that they load, "7 8"
TRITON = "triton"  # the Deployment, and the component of its pods
ROUTER = "router"  # component of the routers' pods, and the ConfigMap with their router.yaml
SELECTOR = "app.kubernetes.io/part-of=mtmh,app.kubernetes.io/component={}"
RETRYABLE = (409, 429, 500, 502, 503, 504)  # answers of the API that another try may mend
OUT_OF_REACH = 120.0  # seconds that the API may be
LONGEST = 1000  # characters of a pod's last words

Answer = TypeVar("Answer")


class RolloutError(RuntimeError):
    """The new version does not serve; the message says why, and what serves."""


class OvertakenError(RolloutError):
    """Somebody else told Triton what to load."""


def connected() -> client.ApiClient:
    """A client of the cluster around this pod or, outside of one, of the one that kubectl speaks
    to.
    """
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except config.ConfigException as error:
            raise UserError(
                f"no cluster to deploy to: this is no pod, and there is no kubeconfig ({error})."
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
        return configured_versions(self._triton())

    def load(self, versions: list[str] | None, loaded: list[str] | None) -> None:
        """Make Triton load `versions` (None: as if never told) where it was told `known`, and wait
        until it has.

        Raises OvertakenError when it was told something else, RolloutError when it does not come
        up, UserError when the cluster refuses.
        """

        def change() -> None:
            triton = client.AppsV1Api(self.api).read_namespaced_deployment(TRITON, self.namespace)
            if configured_versions(triton) not in (versions, loaded):
                raise OvertakenError(
                    f"somebody else told Triton to load {configured_versions(triton)}"
                )
            text = None if versions is None else " ".join(versions)
            body = {
                # 409 where it was changed meanwhile.
                "metadata": {"resourceVersion": triton.metadata.resource_version},
                "spec": {"template": {"metadata": {"annotations": {VERSIONS: text}}}},
            }
            client.AppsV1Api(self.api).patch_namespaced_deployment(TRITON, self.namespace, body)

        def missing() -> str:
            triton = self._triton()
            if configured_versions(triton) != versions:
                raise OvertakenError(
                    f"somebody else told Triton to load {configured_versions(triton)}"
                )
            return pending(triton)

        self._with_retries(change)
        self._wait("Triton's pods", missing)

    def wait_for_routers(self, version: str) -> None:
        """Return once every router that is ready serves `version`, and there is one.

        Raises RolloutError when that takes too long, or a router says that it refuses the version.
        """

        def missing() -> str:
            answers = {pod.metadata.name: self._health(pod) for pod in self._pods(ROUTER)}
            for name, health in answers.items():
                if why := health.get("refused", {}).get(version):
                    raise RolloutError(f"{name} refuses it: {why}")
            serving = {
                name: health.get("model_version")
                for name, health in answers.items()
                if health.get("ready")
            }
            others = [
                f"{name} serves {other or 'nothing'}"
                for name, other in serving.items()
                if other != version
            ]
            return ", ".join(others) or ("" if serving else "none is ready")

        self._wait("the routers", missing)

    def pinned(self) -> set[str]:
        """The versions that arms of a running experiment name."""
        core = client.CoreV1Api(self.api)
        config_map = self._with_retries(
            lambda: core.read_namespaced_config_map(ROUTER, self.namespace)
        )
        settings = yaml.safe_load(config_map.data["router.yaml"])
        arms = (settings.get("experiment") or {}).get("arms") or []
        return {str(arm["version"]) for arm in arms if arm.get("version")}

    def container_errors(self) -> str:
        """Why Triton's pods do not run, in the cluster's words; empty where they say nothing."""
        errors = []
        for pod in self._pods(TRITON):
            for container in pod.status.container_statuses or []:
                waiting = container.state.waiting if container.state else None
                ended = container.last_state.terminated if container.last_state else None
                # Kubernetes' reason, and the last words of the process before.
                words = [
                    f"{waiting.reason}" if waiting else "",
                    " ".join((ended.message or "").split())[-LONGEST:] if ended else "",
                ]
                if error := ": ".join(word for word in words if word):
                    errors.append(f"{pod.metadata.name}: {error}")
        return "; ".join(errors)

    def _triton(self) -> client.V1Deployment:
        return self._with_retries(
            lambda: client.AppsV1Api(self.api).read_namespaced_deployment(TRITON, self.namespace)
        )

    def _pods(self, component: str) -> list[client.V1Pod]:
        selector = SELECTOR.format(component)
        core = client.CoreV1Api(self.api)
        pods = self._with_retries(
            lambda: core.list_namespaced_pod(self.namespace, label_selector=selector)
        ).items
        return [pod for pod in pods if pod.metadata.deletion_timestamp is None]

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
        if not (pod.status.pod_ip and ports):
            return {}
        try:
            answer = self.http.request(
                "GET", f"http://{pod.status.pod_ip}:{ports[0].container_port}/readyz"
            )
            return {**json.loads(answer.data), "ready": answer.status == 200}
        except (urllib3.exceptions.HTTPError, ValueError):
            return {}

    def _with_retries(self, call: Callable[[], Answer]) -> Answer:
        """What `ask` returns, asked again while the API is out of reach or busy."""
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


def configured_versions(triton: client.V1Deployment) -> list[str] | None:
    """The versions in the annotation of its pods."""
    text = (triton.spec.template.metadata.annotations or {}).get(VERSIONS)
    return None if text is None else text.split()


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


def _words(error: Exception) -> str:
    """The API's own message, where it sent one."""
    try:
        return str(json.loads(getattr(error, "body", None) or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error).strip().splitlines()[0]
