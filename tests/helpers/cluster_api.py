"""A stand-in for a cluster: a real HTTP API over the objects of k8s/base, with the rights of its
deploy account.

It speaks the few endpoints that a rollout needs with the semantics of the real ones:
resourceVersion and 409, generation and observedGeneration, role rules and 403, a rollout that goes
on by a step whenever somebody looks, or gets stuck, and pods that serve while they terminate
(cluster_pods.py). The routers are HTTP servers. No test runs on a real cluster.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from helpers.cluster_pods import VERSIONS, RouterPod, TritonPods, Trouble
from helpers.http_server import Answer, served

BASE = Path(__file__).parents[2] / "k8s" / "base"
ROUTERS = ("127.0.0.2", "127.0.0.3")


def read(name: str, kind: str) -> Any:
    """The object of that kind in a file of k8s/base."""
    return next(
        body for body in yaml.safe_load_all((BASE / name).read_text()) if body["kind"] == kind
    )


@dataclass
class StandIn:
    """The namespace mtmh over the store of a data set."""

    store: Path
    addresses: tuple[str, ...] = ROUTERS  # of the routers
    trouble: Trouble = field(default_factory=Trouble)
    on_request: Callable[[str, str], None] = lambda verb, resource: None
    url: str = ""
    triton: TritonPods = field(
        default_factory=lambda: TritonPods(read("triton.yaml", "Deployment"))
    )
    router: Any = field(default_factory=lambda: read("router-deployment.yaml", "Deployment"))
    settings: str = field(default_factory=lambda: (BASE / "router.yaml").read_text())
    rules: Any = field(default_factory=lambda: read("deploy-account.yaml", "Role")["rules"])
    history: list[str | None] = field(default_factory=list)  # what Triton was told to load, in turn
    used: set[tuple[str, str]] = field(default_factory=set)  # verb and resource of every request
    unserved: set[str] = field(
        default_factory=set
    )  # champions, when a pod of Triton did not have them
    lease: Any = None  # of who rolls out
    routers: list[RouterPod] = field(init=False)
    lock: Any = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.routers = [RouterPod(address) for address in self.addresses]

    @property
    def champion(self) -> str:
        """What the store says, a canary apart."""
        path = self.store / "champion"
        return path.read_text().split()[0] if path.is_file() else ""

    @property
    def serving(self) -> set[str]:
        """By the routers."""
        return {router.serving for router in self.routers}

    def tell(self, text: str | None) -> None:
        """Change what Triton is told to load, as a patch does."""
        with self.lock:
            self.triton.tell(text)
            self.history.append(text)

    def settle(self) -> None:
        """Let a rollout that can end come to its end."""
        with self.lock:
            for _ in range(20):
                self.triton.look(self.trouble)
                self.triton.request_passes()

    def answer(self, verb: str, path: str, body: Any) -> Answer:
        """Status and object for a request to the API."""
        resource, _, name = urlsplit(path).path.partition("/namespaces/mtmh/")[2].partition("/")
        verb = "list" if verb == "get" and not name else verb
        self.on_request(verb, resource)
        with self.lock:
            if self.trouble.unavailable:
                self.trouble.unavailable -= 1
                return _status(503, "the server is currently unable to handle the request")
            self.used.add((verb, resource))
            self._watch()
            if not self._allowed(verb, resource, name):
                return _status(
                    403, f'{resource} "{name}" is forbidden: User "mtmh-deploy" cannot {verb} it'
                )
            match resource, name:
                case "deployments", "triton":
                    if verb == "patch":
                        return self._patched(body)
                    self.triton.look(self.trouble)
                    return 200, self.triton.deployment
                case "configmaps", "router":
                    return 200, {"metadata": {"name": name}, "data": {"router.yaml": self.settings}}
                case "leases", _:
                    return self._lease(verb, body)
                case "pods", "":
                    return 200, {
                        "items": self._listed(parse_qs(urlsplit(path).query)["labelSelector"][0])
                    }
            return _status(404, f'{resource} "{name}" not found')

    def ready(self, router: RouterPod) -> Answer:
        """A router's answer to /readyz."""
        with self.lock:
            self._watch()
            is_last = router is self.routers[-1]
            answer: Answer = router.ready(self.store, self.triton, self.trouble, is_last)
            return answer

    def _watch(self) -> None:
        for version in {self.champion, *self.serving} - {""}:
            if not self.triton.all_have(version):
                self.unserved.add(version)
        self.triton.request_passes()

    def _allowed(self, verb: str, resource: str, name: str) -> bool:
        rules = [
            rule for rule in self.rules if resource in rule["resources"] and verb in rule["verbs"]
        ]
        return any(name in rule.get("resourceNames", [name]) for rule in rules)

    def _patched(self, body: Any) -> Answer:
        deployment = self.triton.deployment
        if self.trouble.conflicts:
            self.trouble.conflicts -= 1
            self.triton.written()
        if body["metadata"]["resourceVersion"] != deployment["metadata"]["resourceVersion"]:
            return _status(
                409, "the object has been modified; please apply your changes to the latest version"
            )
        # No more than the annotation: an autoscaler sets the replicas meanwhile.
        text = body["spec"]["template"]["metadata"]["annotations"][VERSIONS]
        annotated = {"template": {"metadata": {"annotations": {VERSIONS: text}}}}
        assert body["spec"] == annotated
        assert set(body["metadata"]) == {"resourceVersion"}
        if text != self.triton.told:
            self.tell(text)
        return 200, deployment

    def _lease(self, verb: str, body: Any) -> Answer:
        version = self.lease["metadata"]["resourceVersion"] if self.lease else ""
        if verb == "get":
            return (
                (200, self.lease) if self.lease else _status(404, 'leases "mtmh-deploy" not found')
            )
        if body["metadata"].get("resourceVersion", "") != version:
            return _status(409, "the object has been modified, or is there already")
        body["metadata"]["resourceVersion"] = str(int(version or 0) + 1)
        self.lease = body
        return 200, body

    def _listed(self, selector: str) -> list[Any]:
        """The pods with these labels."""
        labels = dict(each.split("=") for each in selector.split(",")).items()
        template = self.router["spec"]["template"]
        routers = [
            {
                "metadata": {"name": router.name, **template["metadata"]},
                "spec": template["spec"],
                "status": {"podIP": router.address, "phase": "Running"},
            }
            for router in self.routers
        ]
        pods = [*self.triton.listed(self.trouble), *routers]
        return [pod for pod in pods if labels <= pod["metadata"]["labels"].items()]


@contextmanager
def running(cluster: StandIn) -> Iterator[StandIn]:
    """Serve the API and the routers while this is open; `cluster.url` is the API's."""
    with ExitStack() as stack:
        api = stack.enter_context(served("127.0.0.1", 0, lambda *request: cluster.answer(*request)))
        cluster.url = f"http://127.0.0.1:{api.server_port}"
        port = 0  # the first router's is free, and the others have the same
        for router in cluster.routers:
            server = served(
                router.address, port, lambda *request, router=router: cluster.ready(router)
            )
            port = stack.enter_context(server).server_port
        ports = cluster.router["spec"]["template"]["spec"]["containers"][0]["ports"]
        next(port for port in ports if port["name"] == "http")["containerPort"] = port
        yield cluster


def _status(code: int, message: str) -> Answer:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "message": message,
    }
