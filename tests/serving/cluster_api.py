"""A small cluster behind a real HTTP API: the objects of k8s/base, the rights of its deploy account, pods that come and go.

It speaks the endpoints that a rollout needs with the semantics of the real ones: resourceVersion and 409, generation and
observedGeneration, a rollout that goes on a step whenever somebody looks, or gets stuck. The routers are HTTP servers that
serve what the store's champion says. It is not a cluster: nothing was run on a real one.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from k8s.check.render import matches

BASE = Path(__file__).parents[2] / "k8s" / "base"
VERSIONS = "mtmh/versions"
ROUTERS = ("127.0.0.2", "127.0.0.3")
SURGE = 1


def read(name: str, kind: str) -> dict[str, Any]:
    """The object of that kind in a file of k8s/base."""
    return next(body for body in yaml.safe_load_all((BASE / name).read_text()) if body["kind"] == kind)


@dataclass
class Cluster:
    """One namespace. Tests set the fields below the line to make trouble, and read what happened above it."""

    store: Path
    triton: dict[str, Any] = field(default_factory=lambda: read("triton.yaml", "Deployment"))
    router: dict[str, Any] = field(default_factory=lambda: read("router-deployment.yaml", "Deployment"))
    settings: str = field(default_factory=lambda: (BASE / "router.yaml").read_text())
    rules: list[dict[str, Any]] = field(default_factory=lambda: read("deploy-account.yaml", "Role")["rules"])
    url: str = ""
    port: int = 0
    history: list[str | None] = field(default_factory=list)  # what Triton was told to load
    used: set[tuple[str, str]] = field(default_factory=set)  # (verb, resource)
    unserved: list[str] = field(default_factory=list)  # champions that not every available pod of Triton had
    pods: list[str | None] = field(default_factory=list)  # the annotation of each available pod of Triton
    # trouble
    broken: str = ""  # a version whose pods never come up
    given_up: bool = True  # whether the cluster says so
    conflicts: int = 0  # status writes that come between a read and a patch
    unavailable: int = 0  # requests that get 503
    refused: str = ""  # a version that the routers refuse
    stale: bool = False  # routers that do not see the champion change
    on_request: Callable[[str, str], None] = lambda verb, resource: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    seen: str = ""

    def __post_init__(self) -> None:
        self.triton["metadata"] |= {"namespace": "mtmh", "uid": "1", "generation": 1, "resourceVersion": "1"}
        replicas = self.triton["spec"]["replicas"]
        self.triton["status"] = {"observedGeneration": 1, **_counts(replicas, replicas, replicas)}
        self.pods = [None] * replicas
        self.seen = self.champion()

    @property
    def told(self) -> str | None:
        """What Triton is told to load."""
        return self.triton["spec"]["template"]["metadata"].get("annotations", {}).get(VERSIONS)

    def tell(self, text: str) -> None:
        """Somebody tells Triton what to load, and its pods have it at once."""
        self._change({"annotations": {VERSIONS: text}})
        self.pods = [text] * len(self.pods)
        replicas = len(self.pods)
        generation = self.triton["metadata"]["generation"]
        self.triton["status"] = {"observedGeneration": generation, **_counts(replicas, replicas, replicas)}

    def champion(self) -> str:
        path = self.store / "champion"
        return path.read_text().strip() if path.is_file() else ""

    def allowed(self, verb: str, resource: str, name: str) -> bool:
        return any(
            verb in rule["verbs"]
            and resource in rule["resources"]
            and (name in rule["resourceNames"] if "resourceNames" in rule else True)
            for rule in self.rules
        )

    def answer(self, verb: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """Status and object for a request of the API."""
        parts = urlsplit(path)
        _, resource, name = (parts.path.partition("/namespaces/mtmh/")[2] + "//").split("/")[:3][::1] and _split(parts.path)
        verb = "list" if verb == "get" and not name else verb
        self.on_request(verb, resource)
        with self.lock:
            if self.unavailable:
                self.unavailable -= 1
                return _status(503, "the server is currently unable to handle the request")
            self.used.add((verb, resource))
            if not self.allowed(verb, resource, name):
                return _status(403, f'{resource} "{name}" is forbidden: User "mtmh-deploy" cannot {verb} it')
            if resource == "deployments" and name == "triton":
                return self._patch(body) if body is not None else (200, self._look())
            if resource == "configmaps" and name == "router":
                return 200, {"metadata": {"name": name}, "data": {"router.yaml": self.settings}}
            if resource == "pods":
                return 200, {"metadata": {}, "items": self._listed(parse_qs(parts.query)["labelSelector"][0])}
            return _status(404, f'{resource} "{name}" not found')
