"""What may come over a connection before a request is whole; callers who hang up, or go on
sending.
"""

import http.client
import json
import resource
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import requests
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from helpers.certificate import certificate
from helpers.live_router import Router, Run, eventually
from helpers.processes import free_ports

from serving.router.connection import most_connections

HEAD = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
LARGE = 10 * 2**20
LOGGED = "mtmh_exposures_total"


@pytest.fixture(scope="module")
def logging_router(run_router: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with a log, that asks for no token."""
    with run_router(f"log.directory={tmp_path_factory.mktemp('log') / 'log'}") as running:
        yield running


def connect(router: Router) -> socket.socket:
    return socket.create_connection(("127.0.0.1", router.port), timeout=20)


def received(caller: socket.socket) -> bytes:
    """Everything until the router hangs up."""
    parts = []
    try:
        while part := caller.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize(
    "endless",
    [
        (HEAD, b"x-flood: " + b"a" * 1000 + b"\r\n"),
        (HEAD, b"a:b\r\n" * 200),
        (HEAD + b"x: ", b"a" * 1000),
        (b"GET /healthz?", b"a" * 1000),
        (
            b"POST /v1/retrieve HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2;",
            b"a" * 1000,
        ),
        (
            b"POST /v1/retrieve HTTP/1.1\r\nhost: x\r\ntransfer-encoding: "
            b"chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            b"a:b\r\n" * 200,
        ),
    ],
    ids=["headers", "small_headers", "one_header", "address", "chunk_extension", "trailers"],
)
def test_headers_without_end_are_cut_off(router: Router, endless: tuple[bytes, bytes]) -> None:
    first, more = endless
    with connect(router) as caller, pytest.raises((ConnectionResetError, BrokenPipeError)):
        caller.sendall(first + more * (LARGE // len(more)))
    assert router.client.get("/healthz").status_code == 200
    assert router.metric("mtmh_connections_closed_total", reason="headers") > 0


def test_too_many_headers_are_a_sentence_and_many_are_an_answer(router: Router) -> None:
    answer = router.client.get(
        "/healthz", headers={f"x-{number}": "a" * 300 for number in range(80)}
    )
    assert answer.status_code == 200
    answer = router.client.get("/healthz", headers={f"x-{number}": "a" for number in range(200)})
    assert answer.status_code == 431
    assert "100 lines" in answer.json()["error"]


@pytest.mark.parametrize(
    "said", [b"", b"POST /v1/ret", HEAD + b"x-a", HEAD + b"\r\n" + HEAD, HEAD + b"\r\n\r\n"]
)
def test_a_request_that_is_never_whole_ends_the_connection(
    router: Router, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("serving.router.connection.HEADER_SECONDS", 0.3)
    before = router.metric("mtmh_connections_closed_total", reason="slow")
    with connect(router) as caller:
        for byte in (said[:-3], said[-3:-2], said[-2:-1], said[-1:]):
            caller.sendall(byte)
        if said.startswith(HEAD + b"\r\n"):
            assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")
            caller.sendall(b"\r")
        assert b"500" not in received(caller)
    assert router.metric("mtmh_connections_closed_total", reason="slow") == before + 1


def test_an_idle_connection_between_requests_outlives_the_time_for_headers(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.router.connection.HEADER_SECONDS", 0.1)
    with connect(router) as caller:
        caller.sendall(HEAD + b"\r\n")
        while b"alive" not in caller.recv(4096):
            pass
        caller.settimeout(1)
        with pytest.raises(TimeoutError):
            caller.recv(1)
        caller.sendall(HEAD + b"\r\n")
        assert b"200" in caller.recv(4096)


def test_who_says_nothing_makes_room_for_who_asks(run_router: Run) -> None:
    with run_router("limits.connections=8") as router:
        silent = [connect(router) for _ in range(30)]
        try:
            for path in ("/healthz", "/readyz"):
                assert httpx.get(f"http://127.0.0.1:{router.port}{path}").status_code == 200
            assert router.metric("mtmh_connections_closed_total", reason="full") >= 22
        finally:
            for caller in silent:
                caller.close()


def test_half_of_the_files_are_left_to_the_router() -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert most_connections(10**9) <= files // 2
    assert most_connections(2) == 2


def by_http_client(url: str, body: bytes) -> int:
    connection = http.client.HTTPConnection(
        url.removeprefix("http://").partition("/")[0], timeout=30
    )
    connection.request("POST", "/v1/retrieve", body, {"content-type": "application/json"})
    return connection.getresponse().status


def by_urllib(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value:
        return refused.value.code


def by_requests(url: str, body: bytes) -> int:
    return requests.post(
        url, body, headers={"content-type": "application/json"}, timeout=30
    ).status_code


def by_httpx(url: str, body: bytes) -> int:
    return httpx.post(
        url, content=body, headers={"content-type": "application/json"}, timeout=30
    ).status_code


def by_curl(url: str, body: bytes) -> int:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-"]
    command += ["-H", "content-type: application/json", "-H", "expect:", url]
    return int(subprocess.run(command, input=body, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("post", [by_http_client, by_urllib, by_requests, by_httpx, by_curl])
@pytest.mark.parametrize("size", [1_100_000, LARGE])
def test_a_body_that_is_too_large_is_told_to_every_client(
    router: Router, post: Callable[[str, bytes], int], size: int
) -> None:
    url = f"http://127.0.0.1:{router.port}/v1/retrieve"
    assert {post(url, b"x" * size) for _ in range(4)} == {413}


@pytest.mark.parametrize(
    "call", ["retrieve", "similar", "compare", "retrieve/batch", "engagements"]
)
def test_who_hangs_up_while_sending_is_no_fault_of_the_router(
    logging_router: Router, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    before = logging_router.metric("mtmh_requests_total", path="other", status="499")
    with connect(logging_router) as caller:
        head = (
            f"POST /v1/{call} HTTP/1.1\r\nhost: x\r\ncontent-type: "
            f"application/json\r\ncontent-length: 500\r\n\r\n{{"
        )
        caller.sendall(head.encode())
    eventually(
        lambda: logging_router.metric("mtmh_requests_total", path="other", status="499") > before,
        "a 499",
    )
    assert not [record for record in caplog.records if record.exc_info]


def test_who_hangs_up_after_asking_is_shown_nothing(logging_router: Router) -> None:
    body = json.dumps({"user_id": "u03", "triggers": ["i00", "i05"], "k": 30}).encode()
    head = b"POST /v1/retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    labels = {"path": "/v1/retrieve", "status": "499"}
    logged = logging_router.metric(LOGGED, logged="true")
    for _ in range(5):
        with connect(logging_router) as caller:
            caller.sendall(head + body)
    eventually(
        lambda: logging_router.metric("mtmh_requests_total", **labels) == 5, "all are noticed"
    )
    assert logging_router.metric(LOGGED, logged="true") == logged
    assert logging_router.metric("mtmh_in_flight") == 0


def test_engagements_of_a_caller_who_does_not_wait_are_kept(logging_router: Router) -> None:
    body = json.dumps({"engagements": [{"user_id": "u03", "item_id": "i00"}]}).encode()
    head = b"POST /v1/engagements HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    logged = logging_router.metric("mtmh_engagements_total", logged="true")
    with connect(logging_router) as caller:
        caller.sendall(head + body)
    eventually(
        lambda: logging_router.metric("mtmh_engagements_total", logged="true") == logged + 1,
        "it is kept",
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/", "/v1/items"])
def test_head_is_answered_as_get_without_the_body(router: Router, path: str) -> None:
    answer = router.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/page.css/", "/v1/items/", "/healthz/"])
def test_nobody_is_sent_to_the_host_that_a_caller_names(router: Router, path: str) -> None:
    answer = router.client.get(path, headers={"host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_both_ports_speak_tls_where_there_is_a_certificate(run_router: Run, tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)
    port = free_ports(1)[0]
    tls = [
        f"listen.tls.certificate_file={pem}",
        f"listen.tls.key_file={key}",
        f"listen.grpc_port={port}",
    ]
    with run_router(*tls, wait=False) as router:
        context = ssl.create_default_context(cafile=str(pem))
        with httpx.Client(base_url=f"https://127.0.0.1:{router.port}", verify=context) as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "the router is ready")
            assert client.post("/v1/similar", json={"item_id": "i00", "k": 3}).json()["candidates"]
        with grpc.secure_channel(
            f"localhost:{port}", grpc.ssl_channel_credentials(pem.read_bytes())
        ) as channel:
            check = HealthStub(channel).Check
            request, serving = HealthCheckRequest(), HealthCheckResponse.SERVING
            eventually(
                lambda: check(request, wait_for_ready=True, timeout=30).status == serving,
                "gRPC serves",
            )
        with pytest.raises(httpx.TransportError):
            router.client.get("/healthz")  # without TLS
