"""A stand-in for a cluster: a real HTTP API over the objects of k8s/base, with the rights of its
deploy account.

It speaks the few endpoints that a rollout needs with the semantics of the real ones:
resourceVersion and 409, generation and observedGeneration, role rules and 403, a rollout that goes
on by a step whenever somebody looks, or gets stuck. The routers are HTTP servers that serve what
the store's champion says. No test runs on a real cluster.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

BASE = Path(__file__).parents[2] / "k8s" / "base"
VERSIONS = "mtmh/versions"
ROUTERS = ("127.0.0.2", "127.0.0.3")
REPLICAS = 2
Answer = tuple[int, dict[str, Any]]


def read(name: str, kind: str) -> Any:
    """The object of that kind in a file of k8s/base."""
    return next(
        body for body in yaml.safe_load_all((BASE / name).read_text()) if body["kind"] == kind
    )


@dataclass
class Trouble:
    """What a test wants to go wrong."""

    broken: str = ""  # a version with which Triton's pods do not come up
    given_up: bool = True  # whether the cluster says so in the end
    conflicts: int = 0  # writes of the status that come between a read and a patch
    unavailable: int = 0  # requests that are answered with 503
    refused: str = ""  # a version that the routers refuse
    stale: str = ""  # a version that the last of the routers does not take up, without a word
    on_request: Callable[[str, str], None] = lambda verb, resource: None


@dataclass
class StandIn:
    """The namespace mtmh over the store of a data set."""

    store: Path
    trouble: Trouble = field(default_factory=Trouble)
    url: str = ""
    triton: Any = field(default_factory=lambda: read("triton.yaml", "Deployment"))
    router: Any = field(default_factory=lambda: read("router-deployment.yaml", "Deployment"))
    settings: str = field(default_factory=lambda: (BASE / "router.yaml").read_text())
    rules: Any = field(default_factory=lambda: read("deploy-account.yaml", "Role")["rules"])
    pods: list[str] = field(default_factory=list)  # what each available pod of Triton has loaded
    history: list[str | None] = field(default_factory=list)  # what Triton was told to load, in turn
    used: set[tuple[str, str]] = field(default_factory=set)  # verb and resource of every request
    unserved: set[str] = field(
        default_factory=set
    )  # champions, when a pod of Triton did not have them
    serving: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(ROUTERS, "")
    )  # by each router
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROUTERS, 0))
    looks: int = 0  # since the last change
    lock: Any = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.triton["metadata"] |= {"namespace": "mtmh", "generation": 1, "resourceVersion": "1"}
        self.pods = [""] * REPLICAS
        self._counts(REPLICAS, REPLICAS, REPLICAS)

    @property
    def told(self) -> str | None:
        """What Triton is told to load."""
        text: str | None = (
            self.triton["spec"]["template"]["metadata"].get("annotations", {}).get(VERSIONS)
        )
        return text

    @property
    def champion(self) -> str:
        """What the store says."""
        path = self.store / "champion"
        return path.read_text().strip() if path.is_file() else ""

    def tell(self, text: str | None) -> None:
        """Change what Triton is told to load, as a patch does."""
        with self.lock:
            self.triton["spec"]["template"]["metadata"]["annotations"] = (
                {} if text is None else {VERSIONS: text}
            )
            self.triton["metadata"]["generation"] += 1
            self._written()
            self.history.append(text)
            self.looks = 0

    def settle(self) -> None:
        """Let a rollout that can end come to its end."""
        for _ in range(10):
            self._look()

    def answer(self, verb: str, path: str, body: Any) -> Answer:
        """Status and object for a request to the API."""
        resource, _, name = urlsplit(path).path.partition("/namespaces/mtmh/")[2].partition("/")
        verb = verb if name else "list"
        self.trouble.on_request(verb, resource)
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
                    return self._patched(body) if verb == "patch" else (200, self._look())
                case "configmaps", "router":
                    return 200, {"metadata": {"name": name}, "data": {"router.yaml": self.settings}}
                case "pods", "":
                    return 200, {
                        "items": self._listed(parse_qs(urlsplit(path).query)["labelSelector"][0])
                    }
            return _status(404, f'{resource} "{name}" not found')

    def ready(self, router: str) -> Answer:
        """A router's answer to /readyz; every third time that it is asked it has looked at the
        champion.
        """
        with self.lock:
            self._watch()
            champion, refused = self.champion, {}
            self.asked[router] += 1
            if champion == self.trouble.refused:
                refused = {champion: "warm-up of engagement: failed"}
            elif self.asked[router] % 3 == 0 and (
                champion != self.trouble.stale or router != ROUTERS[-1]
            ):
                self.serving[router] = champion
            told = {
                "status": "ready",
                "model_version": self.serving[router] or None,
                "refused": refused,
            }
            return (200 if self.serving[router] else 503), told

    def _watch(self) -> None:
        for version in {self.champion, *self.serving.values()} - {""}:
            if not all(version in loaded.split() for loaded in self.pods):
                self.unserved.add(version)

    def _allowed(self, verb: str, resource: str, name: str) -> bool:
        rules = [
            rule for rule in self.rules if resource in rule["resources"] and verb in rule["verbs"]
        ]
        return any(name in rule.get("resourceNames", [name]) for rule in rules)

    def _patched(self, body: Any) -> Answer:
        if self.trouble.conflicts:
            self.trouble.conflicts -= 1
            self._written()
        if body["metadata"]["resourceVersion"] != self.triton["metadata"]["resourceVersion"]:
            return _status(
                409, "the object has been modified; please apply your changes to the latest version"
            )
        text = body["spec"]["template"]["metadata"]["annotations"][VERSIONS]
        if text != self.told:
            self.tell(text)
        return 200, self.triton

    def _look(self) -> Any:
        """Triton's Deployment; its rollout goes on by one step: seen, one pod more, the old ones
        replaced, the rest.
        """
        with self.lock:
            self.looks += 1
            text = self.told or ""
            status = self.triton["status"]
            if self.looks == 2:
                status["observedGeneration"] = self.triton["metadata"]["generation"]
                status["conditions"] = []
                self._counts(0, REPLICAS, REPLICAS)
            elif self.looks == 3:
                self._counts(1, REPLICAS + 1, REPLICAS)
            elif self.looks >= 4 and self.trouble.broken and self.trouble.broken in text.split():
                if self.looks >= 6 and self.trouble.given_up:
                    words = {
                        "reason": "ProgressDeadlineExceeded",
                        "message": 'ReplicaSet "triton-2" has timed out',
                    }
                    status["conditions"] = [{"type": "Progressing", "status": "False", **words}]
            elif self.looks == 4:
                self.pods = [*self.pods[1:], text]
                self._counts(REPLICAS, REPLICAS + 1, REPLICAS)
            elif self.looks == 5:
                self.pods = [text] * REPLICAS
                self._counts(REPLICAS, REPLICAS, REPLICAS)
            self._written()
            return self.triton

    def _counts(self, new: int, all_: int, available: int) -> None:
        counts = {"updatedReplicas": new, "replicas": all_, "availableReplicas": available}
        self.triton["status"] = {
            "observedGeneration": 1,
            "conditions": [],
            **self.triton.get("status", {}),
            **counts,
        }

    def _written(self) -> None:
        self.triton["metadata"]["resourceVersion"] = str(
            int(self.triton["metadata"]["resourceVersion"]) + 1
        )

    def _listed(self, selector: str) -> list[Any]:
        """The pods with these labels: the routers, or those of Triton that do not come up."""
        labels = dict(each.split("=") for each in selector.split(","))
        pods = []
        for workload in (self.triton, self.router):
            template = workload["spec"]["template"]
            if not labels.items() <= template["metadata"]["labels"].items():
                continue
            for address in ROUTERS:
                metadata = {
                    "name": f"{workload['metadata']['name']}-{address[-1]}",
                    **template["metadata"],
                }
                status: dict[str, Any] = {"podIP": address, "phase": "Running"}
                if workload is self.triton and self.trouble.broken in (self.told or "").split():
                    ended = {
                        "exitCode": 1,
                        "message": "engagement_8: vectors.npy does not have its checksum\n",
                    }
                    one = {
                        "name": "triton",
                        "image": "",
                        "imageID": "",
                        "ready": False,
                        "restartCount": 3,
                    }
                    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
                    status["containerStatuses"] = [
                        one | waiting | {"lastState": {"terminated": ended}}
                    ]
                pods.append({"metadata": metadata, "spec": template["spec"], "status": status})
        return pods


@contextmanager
def running(cluster: StandIn) -> Iterator[StandIn]:
    """Serve the API and the routers while this is open; `cluster.url` is the API's."""
    with ExitStack() as stack:
        api = stack.enter_context(
            _served("127.0.0.1", 0, lambda *request: cluster.answer(*request))
        )
        cluster.url = f"http://127.0.0.1:{api.server_port}"
        first = stack.enter_context(
            _served(ROUTERS[0], 0, lambda *request: cluster.ready(ROUTERS[0]))
        )
        for router in ROUTERS[1:]:
            stack.enter_context(
                _served(
                    router, first.server_port, lambda *request, name=router: cluster.ready(name)
                )
            )
        ports = cluster.router["spec"]["template"]["spec"]["containers"][0]["ports"]
        next(port for port in ports if port["name"] == "http")["containerPort"] = first.server_port
        yield cluster


@contextmanager
def _served(
    address: str, port: int, answer: Callable[[str, str, Any], Answer]
) -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(*answer("get", self.path, None))

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] in (
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            )
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*answer("patch", self.path, body))

        def send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _status(code: int, message: str) -> Answer:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "message": message,
    }
