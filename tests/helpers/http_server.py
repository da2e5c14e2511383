"""A real HTTP server in a thread for what a test stands in for."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]


@contextmanager
def served(
    address: str, port: int, answer: Callable[[str, str, Any], Answer]
) -> Iterator[ThreadingHTTPServer]:
    """Serve GET, PATCH, POST and PUT by `answer(verb, path, body)`, in Kubernetes' verbs, while this
    is open; port 0 is a free one.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(*answer("get", self.path, None))

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] in (
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            )
            self.send(*answer("patch", self.path, self.body()))

        def do_POST(self) -> None:
            self.send(*answer("create", self.path, self.body()))

        def do_PUT(self) -> None:
            self.send(*answer("update", self.path, self.body()))

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print nothing."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

    server = Server((address, port), Handler)
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
