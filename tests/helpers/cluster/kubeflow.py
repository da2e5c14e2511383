"""Kubeflow's part on a cluster that has no Kubeflow: a compiled pipeline's steps, one after the other
as pods, with the resources, volumes, environment and conditions that its two documents name.

What the driver does is done here (arguments, conditions, the cache, retries), what the launcher
does in the pod by launcher.py.
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from helpers.cluster.launcher import OUTPUTS
from pipelines.preflight import waits_for_ever

ACCOUNT = "mtmh-deploy"  # of the pipeline's steps (k8s/base/deploy-account.yaml)
LAUNCHER = Path(__file__).with_name("launcher.py")
WRITABLE = ("/s3", "/minio", "/gcs", "/.local", "/.cache", "/.config")  # emptyDirs of every step
CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == (true|false)")


class StepFailedError(AssertionError):
    """A step's pod failed as often as it may; the message holds the end of its log."""


@dataclass
class Step:
    """A step that has ended."""

    seconds: float
    log: str
    outputs: dict[str, Any]
    attempts: int = 1
    cached: bool = False


Run = Callable[..., dict[str, Step]]  # settings -> the steps of a run that has ended


@dataclass
class Kubeflow:
    """Runs pipelines in `namespace` under `account`; artifacts go to the bucket at `endpoint`."""

    api: client.CoreV1Api
    namespace: str
    account: str
    endpoint: str
    cache: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_pod: Any = None  # called with a step's name and its pod's, once the pod runs

    def run(
        self, compiled: Path, arguments: dict[str, Any], use_cache: bool = True
    ) -> dict[str, Step]:
        """All steps of the compiled pipeline; those whose condition is false are left out.

        Raises StepFailedError at the first step that fails for good.
        """
        spec, platform = [*yaml.safe_load_all(compiled.read_text()), {}][:2]
        executors = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
        run = _Run(self, spec, executors.get("executors", {}), str(uuid.uuid4()), use_cache)
        declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        defaults = {
            name: parameter["defaultValue"]
            for name, parameter in declared.items()
            if "defaultValue" in parameter
        }
        missing = [
            name
            for name, parameter in declared.items()
            if name not in {**defaults, **arguments} and not parameter.get("isOptional")
        ]
        assert not missing, f"the compiled pipeline asks for {missing}"
        run.dag(spec["root"]["dag"], {**defaults, **arguments}, {})
        return run.steps


@dataclass
class _Run:
    kubeflow: Kubeflow
    spec: dict[str, Any]
    platform: dict[str, Any]  # {executor: volumes, secrets, labels, ...}
    run_id: str
    use_cache: bool
    steps: dict[str, Step] = field(default_factory=dict)

    def dag(
        self, dag: dict[str, Any], parameters: dict[str, Any], artifacts: dict[str, Any]
    ) -> None:
        """The tasks of a DAG in an order that their needs allow."""
        waiting, done = dict(dag["tasks"]), dict[str, dict[str, Any]]()
        last = {name: waiting.pop(name) for name, task in dag["tasks"].items() if _is_exit(task)}
        state = "FAILED"
        try:
            self._tasks(waiting, done, parameters, artifacts)
            state = "SUCCEEDED"
        finally:  # an exit handler's step comes whatever became of the others
            for name, task in last.items():
                component = self.spec["components"][task["componentRef"]["name"]]
                inputs = self._inputs(task["inputs"], parameters, artifacts, {}, state)
                self._step(name, task, component, inputs)

    def _tasks(
        self,
        waiting: dict[str, Any],
        done: dict[str, dict[str, Any]],
        parameters: dict[str, Any],
        artifacts: dict[str, Any],
    ) -> None:
        while waiting:
            name = next(
                task
                for task, body in waiting.items()
                if all(before in done for before in body.get("dependentTasks", []))
            )
            task = waiting.pop(name)
            inputs = self._inputs(task.get("inputs", {}), parameters, artifacts, done)
            condition = task.get("triggerPolicy", {}).get("condition")
            if condition and not _is_true(condition, inputs["parameters"]):
                done[name] = {"parameters": {}, "artifacts": {}}
                continue
            component = self.spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                self.dag(component["dag"], inputs["parameters"], inputs["artifacts"])
                done[name] = {"parameters": {}, "artifacts": {}}
            else:
                done[name] = self._step(name, task, component, inputs)

    def _inputs(
        self,
        wanted: dict[str, Any],
        parameters: dict[str, Any],
        artifacts: dict[str, Any],
        done: dict[str, dict[str, Any]],
        state: str = "",
    ) -> dict[str, Any]:
        """What a task reads, by its own names; `state` is what an exit handler is told."""
        inputs: dict[str, Any] = {"parameters": {}, "artifacts": {}}
        for name, source in wanted.get("parameters", {}).items():
            if "componentInputParameter" in source:
                value = parameters[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                output = source["taskOutputParameter"]
                value = done[output["producerTask"]]["parameters"][output["outputParameterKey"]]
            elif "taskFinalStatus" in source:  # Kubeflow 2.17 leaves the error empty
                task_name = source["taskFinalStatus"]["producerTask"]
                value = {"state": state, "pipelineTaskName": task_name, "error": {}}
            else:
                value = self._placeholders(source["runtimeValue"]["constant"])
            inputs["parameters"][name] = value
        for name, source in wanted.get("artifacts", {}).items():
            if "componentInputArtifact" in source:
                inputs["artifacts"][name] = artifacts[source["componentInputArtifact"]]
            else:
                output = source["taskOutputArtifact"]
                made = done[output["producerTask"]]["artifacts"]
                inputs["artifacts"][name] = made[output["outputArtifactKey"]]
        return inputs

    def _placeholders(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        value = value.replace("{{$.pipeline_job_uuid}}", self.run_id)
        return value.replace("{{$.pipeline_job_name}}", f"mtmh-{self.run_id[:5]}")

    def _step(
        self, name: str, task: dict[str, Any], component: dict[str, Any], inputs: dict[str, Any]
    ) -> dict[str, Any]:
        """A step from the cache, or as a pod that is tried as often as its retry policy says."""
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]][
            "container"
        ]
        defined = component.get("inputDefinitions", {}).get("parameters", {})
        given = {
            key: parameter["defaultValue"]
            for key, parameter in defined.items()
            if "defaultValue" in parameter
        } | inputs["parameters"]
        # cacheutils.GenerateCacheKey: image, command and inputs; no environment, no secret.
        uris = {key: each["artifacts"][0]["uri"] for key, each in inputs["artifacts"].items()}
        command = [*container["command"], *container["args"]]
        key = hashlib.sha256(
            json.dumps([container["image"], command, given, uris], sort_keys=True).encode()
        ).hexdigest()
        cached = task.get("cachingOptions", {}).get("enableCache") and self.use_cache
        if cached and key in self.kubeflow.cache:
            self.steps[name] = Step(0.0, "", self.kubeflow.cache[key], cached=True)
            return self.kubeflow.cache[key]
        executor_input = _executor_input(name, component, given, inputs["artifacts"], self.run_id)
        body = self._pod(name, component["executorLabel"], container, executor_input)
        policy = task.get("retryPolicy", {})
        attempts = 1 + int(policy.get("maxRetryCount", 0))
        pause = float(policy.get("backoffDuration", "0s").rstrip("s"))
        started = time.monotonic()
        for attempt in range(1, attempts + 1):
            phase, log = self.kubeflow_pod(name, body, executor_input)
            if phase == "Succeeded":
                break
            if attempt < attempts:  # twice as long after each, as Argo has it
                time.sleep(pause * 2 ** (attempt - 1))
        else:
            raise StepFailedError(f"{name} failed {attempts} times:\n{log[-4000:]}")
        line = next(line for line in reversed(log.splitlines()) if line.startswith(OUTPUTS))
        outputs: dict[str, Any] = json.loads(line.removeprefix(OUTPUTS))
        self.steps[name] = Step(time.monotonic() - started, log, outputs, attempt)
        if cached:
            self.kubeflow.cache[key] = outputs
        return outputs

    def kubeflow_pod(
        self, step: str, body: dict[str, Any], given: dict[str, Any]
    ) -> tuple[str, str]:
        """Run one pod to its end; its phase and its log."""
        api, namespace = self.kubeflow.api, self.kubeflow.namespace
        name = f"{step}-{uuid.uuid4().hex[:8]}"
        files = {"launcher.py": LAUNCHER.read_text(), "input.json": json.dumps(given)}
        api.create_namespaced_config_map(namespace, {"metadata": {"name": name}, "data": files})
        body = json.loads(json.dumps(body).replace("@NAME@", name))
        api.create_namespaced_pod(namespace, body)
        said, phase = False, "Pending"
        while phase not in ("Succeeded", "Failed"):
            time.sleep(0.5)
            try:
                pod = api.read_namespaced_pod(name, namespace)
                phase = pod.status.phase
                assert not (stuck := waits_for_ever(pod)), f"{step}: {stuck}"
            except ApiException as error:
                if error.status == 404:  # deleted from outside: as a node that went
                    return "Failed", "the pod is gone"
                raise
            if phase == "Running" and not said and self.kubeflow.on_pod:
                said = True
                self.kubeflow.on_pod(step, name)
        # The bytes: the client would take a log that looks like JSON apart.
        log = api.read_namespaced_pod_log(name, namespace, _preload_content=False).data.decode()
        api.delete_namespaced_pod(name, namespace)
        api.delete_namespaced_config_map(name, namespace)
        return phase, log

    def _pod(
        self, name: str, executor: str, container: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        """The pod of a step, as Argo makes it of both documents."""
        platform = self.platform.get(executor, {})
        mounts = [{"name": f"empty-{n}", "mountPath": path} for n, path in enumerate(WRITABLE)]
        volumes: list[dict[str, Any]] = [
            {"name": f"empty-{n}", "emptyDir": {}} for n in range(len(WRITABLE))
        ]
        mounts.append({"name": "kfp", "mountPath": "/kfp"})
        volumes.append({"name": "kfp", "configMap": {"name": "@NAME@"}})
        for number, claim in enumerate(platform.get("pvcMount", [])):
            mounts.append({"name": f"claim-{number}", "mountPath": claim["mountPath"]})
            mounts[-1] |= {"subPath": claim["subPath"]} if claim.get("subPath") else {}
            volumes.append(
                {
                    "name": f"claim-{number}",
                    "persistentVolumeClaim": {"claimName": claim["constant"]},
                }
            )
        arguments = [
            json.dumps(given) if word == "{{$}}" else word
            for word in [*container["command"], *container["args"]]
        ]
        labels = platform.get("podMetadata", {}).get("labels", {}) | {"pipeline/runid": self.run_id}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "@NAME@", "labels": labels},
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": int(platform.get("activeDeadlineSeconds", 0)) or None,
                "serviceAccountName": self.kubeflow.account,
                "nodeSelector": platform.get("nodeSelector", {}).get("labels", {}),
                "tolerations": platform.get("tolerations", []),
                "containers": [
                    {
                        "name": "main",
                        "image": container["image"],
                        "imagePullPolicy": platform.get("imagePullPolicy", "IfNotPresent"),
                        "command": ["python3", "/kfp/launcher.py", self.kubeflow.endpoint],
                        "args": ["/kfp/input.json", *arguments],
                        "env": _environment(platform, container),
                        "resources": _resources(container),
                        "volumeMounts": mounts,
                    }
                ],
                "volumes": volumes,
            },
        }


def _environment(platform: dict[str, Any], container: dict[str, Any]) -> list[dict[str, Any]]:
    """Variables from secrets and from the pod's own fields, then plain ones."""
    from_secrets = [
        {
            "name": key["envVar"],
            "valueFrom": {
                "secretKeyRef": {
                    "name": secret["secretName"],
                    "key": key["secretKey"],
                    "optional": bool(secret.get("optional")),
                }
            },
        }
        for secret in platform.get("secretAsEnv", [])
        for key in secret["keyToEnv"]
    ]
    from_fields = [
        {"name": field["name"], "valueFrom": {"fieldRef": {"fieldPath": field["fieldPath"]}}}
        for field in platform.get("fieldPathAsEnv", [])
    ]
    return from_secrets + from_fields + container.get("env", [])


def _resources(container: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What the step asks for and may have; a GPU is both."""
    written = container.get("resources", {})
    resources: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for resource in ("Cpu", "Memory"):
        for bound, group in (("Request", "requests"), ("Limit", "limits")):
            if amount := written.get(f"resource{resource}{bound}"):
                resources[group][resource.lower()] = amount
    if accelerator := written.get("accelerator"):
        resources["limits"][accelerator["resourceType"]] = accelerator["resourceCount"]
    return resources


def _is_exit(task: dict[str, Any]) -> bool:
    """Whether the task ends a run whatever became of it."""
    return bool(task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")


def _is_true(condition: str, parameters: dict[str, Any]) -> bool:
    match = CONDITION.fullmatch(condition)
    assert match, f"a condition that is not known here: {condition}"
    return bool(parameters[match[1]]) == (match[2] == "true")


def _executor_input(
    name: str,
    component: dict[str, Any],
    parameters: dict[str, Any],
    artifacts: dict[str, Any],
    run_id: str,
) -> dict[str, Any]:
    """What the driver hands the launcher: the inputs, and where outputs go."""
    root = f"s3://mlpipeline/v2/artifacts/mtmh/{run_id}/{name}/{uuid.uuid4()}"
    defined = component.get("outputDefinitions", {})
    outputs = {
        key: {
            "artifacts": [
                {"name": key, "type": body["artifactType"], "uri": f"{root}/{key}", "metadata": {}}
            ]
        }
        for key, body in defined.get("artifacts", {}).items()
    }
    files = {
        key: {"outputFile": f"/tmp/kfp/outputs/{key}"} for key in defined.get("parameters", {})
    }
    return {
        "inputs": {"parameterValues": parameters, "artifacts": artifacts},
        "outputs": {
            "parameters": files,
            "artifacts": outputs,
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }
