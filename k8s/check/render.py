"""An overlay as `kubectl` would apply it, and the file that each object comes from."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mtmh.errors import UserError

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
CRON_JOB = "CronJob"  # its pods serve nobody, and end


@dataclass(frozen=True)
class KubeObject:
    """One object as rendered."""

    kind: str
    name: str
    body: dict[str, Any]
    file: Path  # where it is written: of an object that an overlay patches, the base's file

    def finding(self, field: str, message: str) -> str:
        """A line for people: file, object, field, what is wrong."""
        return f"{self.file}: {self.kind} {self.name}: {field}: {message}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of a workload's pods."""
        return dict(self._template["metadata"].get("labels", {}))

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's spec of a workload or of a CronJob."""
        return dict(self._template["spec"])

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Containers of a workload, those that only start first."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def _template(self) -> dict[str, Any]:
        spec = self.body["spec"]
        return dict((spec["jobTemplate"]["spec"] if self.kind == CRON_JOB else spec)["template"])

    def port(self, port: int | str) -> int | None:
        """Number of a workload's port, by its name or number; None where no container has it."""
        ports = [
            declared for container in self.containers for declared in container.get("ports", [])
        ]
        for declared in ports:
            if port in (declared.get("name"), declared["containerPort"]):
                return int(declared["containerPort"])
        return None


@dataclass(frozen=True)
class Rendered:
    """All objects of one overlay, and what the operator makes: secrets with their keys, labels of
    others' pods."""

    objects: list[KubeObject]
    secrets: dict[str, list[str]]
    peers: list[dict[str, str]]

    def of(self, *kinds: str) -> list[KubeObject]:
        """The objects of these kinds."""
        return [thing for thing in self.objects if thing.kind in kinds]

    def find(self, kind: str, name: str) -> KubeObject | None:
        """The object of that kind and name."""
        return next((thing for thing in self.of(kind) if thing.name == name), None)

    @property
    def workloads(self) -> list[KubeObject]:
        """The objects that make pods which run by themselves."""
        return self.of(*WORKLOADS)

    @property
    def with_pods(self) -> list[KubeObject]:
        """All objects that make pods, those of a schedule too."""
        return self.of(*WORKLOADS, CRON_JOB)

    def selected(self, selector: dict[str, Any]) -> list[KubeObject]:
        """The workloads whose pods `selector` (matchLabels, matchExpressions) takes; an empty one
        takes all."""
        return [thing for thing in self.workloads if matches(selector, thing.labels)]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether pods with `labels` are taken by `selector`."""
    # All conditions must hold, so an empty selector takes every pod.
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        value = labels.get(expression["key"])
        match expression["operator"]:
            case "Exists":
                holds = value is not None
            case "DoesNotExist":
                holds = value is None
            case "In":
                holds = value in expression["values"]
            # NotIn, which pods without the label satisfy as well.
            case _:
                holds = value not in expression["values"]
        if not holds:
            return False
    return True


def render(overlay: Path) -> Rendered:
    """Render the kustomization in `overlay` without a cluster; operator.yaml lies two folders above
    it. Where that says that it is applied beside another one, the other's objects come along.

    Raises UserError when kubectl is missing, or refuses.
    """
    try:
        done = subprocess.run(
            ["kubectl", "kustomize", str(overlay)], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise UserError(
            "no kubectl on the PATH: install it with 'apt-get install -y kubernetes-client'."
        ) from None
    if done.returncode != 0:
        raise UserError(f"{overlay}: kubectl kustomize says: {done.stderr.strip()}")
    # kubectl forgets which file an object came from; findings name it.
    files = dict(_files(overlay))
    operator = yaml.safe_load((overlay.parent.parent / "operator.yaml").read_text())
    objects = []
    for body in yaml.safe_load_all(done.stdout):
        if body:
            kind, name = body["kind"], body["metadata"]["name"]
            file = files.get((kind, name), _short(overlay / "kustomization.yaml"))
            objects.append(KubeObject(kind, name, body, file))
    if other := operator["beside"].get(overlay.name):
        objects += render(overlay.parent / other).objects
    return Rendered(objects, operator["secrets"], operator["peers"])


def _files(directory: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    """(kind, name) and file of every object, the base's last."""
    path = directory / "kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    for name in kustomization.get("resources", []):
        for body in yaml.safe_load_all((directory / name).read_text()):
            yield (body["kind"], body["metadata"]["name"]), _short(directory / name)
    for generated in kustomization.get("configMapGenerator", []):
        yield ("ConfigMap", generated["name"]), _short(path)
    for base in kustomization.get("bases", []):
        yield from _files(directory / base)


def _short(path: Path) -> Path:
    """As one would write it from here."""
    return Path(os.path.relpath(path))
