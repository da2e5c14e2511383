"""A stand-in for a Kubeflow Pipelines server: a real HTTP API that keeps what is uploaded,
scheduled and started.

It speaks the few endpoints that submitting and scheduling need, as JSON like the real one's, and
has its rules of one and of many users (`namespaces`, `tokens`). Nothing runs on it.
"""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

API = "/apis/v2beta1"
Answer = tuple[int, dict[str, Any]]


class RefusalError(Exception):
    """Status and message of a refusal."""


@dataclass
class Kubeflow:
    """What the server has been given, and who may give it what."""

    url: str = ""
    namespaces: tuple[str, ...] = ()  # in which those who ask may work; none: a server of one user
    tokens: tuple[str, ...] = ()  # that it knows; none: it asks for none
    page: bool = False  # whether a login page answers in its place, with status 200
    failing: int = 0  # the status with which runs and recurring runs are refused, if not 0
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id
    versions: dict[str, list[Any]] = field(default_factory=dict)  # YAML documents by version id
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    created: int = 0  # number of things that have been given an id

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """Status and answer of a request to `path` below the API."""
        kind = path.split("/")[1]
        if path == "/healthz":
            return 200, {"multi_user": bool(self.namespaces)}
        if kind in ("experiments", "pipelines") and path != "/pipelines/upload_version":
            self.check_namespace((body or query).get("namespace"))
        if method == "GET":
            return 200, {kind.replace("runs", "Runs"): self.listed(kind, query)}
        if method == "DELETE":
            del self.recurring[path.split("/")[2]]
            return 200, {}
        return 200, self.post(path, query, body)

    def check_namespace(self, namespace: str | None) -> None:
        """The rules of a server of many users."""
        if self.namespaces and not namespace:
            raise RefusalError(
                400, "An experiment cannot have an empty namespace in multi-user mode"
            )
        if self.namespaces and namespace not in self.namespaces:
            raise RefusalError(403, f"User 'ann' is not authorized in namespace {namespace}")

    def listed(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """What the filter's name and the namespace or the experiment of a list lead to."""
        held = {
            "experiments": self.experiments,
            "pipelines": self.pipelines,
            "recurringruns": self.recurring,
        }[kind]
        (predicate,) = json.loads(query["filter"])["predicates"]
        assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
        keys = {"display_name": predicate["stringValue"]}
        keys |= {key: query[key] for key in ("namespace", "experiment_id") if key in query}
        return [entry for entry in held.values() if keys.items() <= entry.items()]

    def post(self, path: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        """The answer to what is to be made."""
        self.created += 1
        number = str(self.created)
        if path == "/experiments":
            self.experiments[number] = {**body, "experiment_id": number}
            return self.experiments[number]
        if path == "/pipelines":
            self.pipelines[number] = {**body, "pipeline_id": number}
            return self.pipelines[number]
        if path == "/pipelines/upload_version":
            assert query["pipelineid"] in self.pipelines
            self.versions[number] = body
            return {"pipeline_id": query["pipelineid"], "pipeline_version_id": number}
        # Runs and recurring runs belong to the namespace of their experiment.
        assert body["pipeline_version_reference"]["pipeline_version_id"] in self.versions
        self.check_namespace(self.experiments[body["experiment_id"]].get("namespace"))
        if self.failing:
            raise RefusalError(self.failing, "not today")
        if path == "/recurringruns":
            self.recurring[number] = {**body, "recurring_run_id": number}
            return self.recurring[number]
        assert path == "/runs"
        self.runs.append(body)
        return {"run_id": f"run {len(self.runs)}"}


def _handler(kubeflow: Kubeflow) -> type[BaseHTTPRequestHandler]:
    """What answers a request in the name of `kubeflow`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.respond()

        def do_DELETE(self) -> None:
            self.respond()

        def respond(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if kubeflow.page:
                self.send(200, "text/html", b"<html>Log in with Dex</html>")
                return
            try:
                status, body = self.answered(content)
            except RefusalError as refusal:
                status, message = refusal.args
                body = {"error": message, "code": 3, "message": message, "details": []}
            self.send(status, "application/json", json.dumps(body).encode())

        def answered(self, content: bytes) -> Answer:
            address = urlsplit(self.path)
            if not address.path.startswith(API):
                raise RefusalError(404, "Not Found")
            scheme, _, token = (self.headers["Authorization"] or "").partition(" ")
            if kubeflow.tokens and (scheme != "Bearer" or token not in kubeflow.tokens):
                raise RefusalError(401, "Request header error: there is no user identity header.")
            body = None
            if content:
                is_upload = "upload" in address.path
                body = uploaded(self.headers, content) if is_upload else json.loads(content)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            return kubeflow.answer(self.command, address.path.removeprefix(API), query, body)

        def send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print nothing."""

    return Handler


@contextmanager
def serve_kubeflow(certificate: tuple[Path, Path] | None = None) -> Iterator[Kubeflow]:
    """A server on a port of its own, at `.url`; with a certificate and its key by TLS."""
    kubeflow = Kubeflow()

    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(kubeflow))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    scheme = "https" if certificate else "http"
    kubeflow.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    try:
        yield kubeflow
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def uploaded(headers: Message, content: bytes) -> list[Any]:
    """The YAML documents of the one file in a multipart body."""
    message = BytesParser().parsebytes(
        b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + content
    )
    (part,) = message.get_payload()
    return list(yaml.safe_load_all(part.get_payload(decode=True)))
