"""A stand-in for a Kubeflow Pipelines server: a real HTTP API that keeps what is uploaded,
scheduled and started.

It speaks the few endpoints that submitting and scheduling need, as JSON like the real one's.
Nothing runs on it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

API = "/apis/v2beta1"


@dataclass
class Kubeflow:
    """What the server has been given."""

    url: str = ""
    pipelines: dict[str, list[Any]] = field(default_factory=dict)  # documents of each upload, by id
    recurring: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    refused: bool = False  # whether runs are answered with 400

    def post(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, dict[str, Any]]:
        """Status and answer of a POST to `path` below the API."""
        if path == "/experiments":
            return 200, {"experiment_id": f"experiment of {body['display_name']}", **body}
        if path == "/pipelines/upload":
            (name,) = query["name"]
            self.pipelines[name] = body
            return 200, {"pipeline_id": name, "display_name": name}
        if path == "/recurringruns":
            self.recurring.append(body)
            return 200, {"recurring_run_id": f"recurring {len(self.recurring)}"}
        if path == "/runs" and not self.refused:
            self.runs.append(body)
            return 200, {"run_id": f"run {len(self.runs)}"}
        return 400, {"message": f"{path}: not today"}


@contextmanager
def serve_kubeflow() -> Iterator[Kubeflow]:
    """A server on a port of its own, at `.url`."""
    kubeflow = Kubeflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(200, {"multi_user": False} if self.path == f"{API}/healthz" else {})

        def do_POST(self) -> None:
            address, content = (
                urlsplit(self.path),
                self.rfile.read(int(self.headers["Content-Length"])),
            )
            body = (
                uploaded(self.headers, content) if "upload" in address.path else json.loads(content)
            )
            self.send(*kubeflow.post(address.path.removeprefix(API), parse_qs(address.query), body))

        def send(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    kubeflow.url = f"http://127.0.0.1:{server.server_address[1]}"
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
