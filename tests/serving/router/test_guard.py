"""Who is let in, what is turned away, and how it is said."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from helpers.live_router import Router, Run, eventually

from serving.router import schema
from serving.router.guard import JsonLines
from serving.router.limits import Admission, RequestError, caller_of
from serving.router.metrics import Metrics
from serving.router.settings import Limits

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def guarded(run_router: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with a token, that takes little."""
    file = tmp_path_factory.mktemp("secrets") / "token"
    file.write_text(TOKEN + "\n")
    settings = [
        f"auth.token_file={file}",
        "limits.body_kb=8",
        "limits.body_seconds=0.5",
        "limits.triggers=5",
    ]
    with run_router(*settings, "limits.k=20", "limits.batch=2", token=TOKEN) as running:
        yield running


def said(response: httpx.Response, status: int, *words: str) -> dict:
    """The body of an answer that is no success."""
    assert response.status_code == status, response.text
    body: dict = response.json()
    schema.Problem.model_validate(body, strict=True)
    assert set(body) == {"error", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in body["error"]
    for word in words:
        assert word in body["error"]
    return body


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"]
)
def test_a_call_without_the_token_is_refused(guarded: Router, shown: str | None) -> None:
    with httpx.Client(base_url=guarded.client.base_url) as stranger:
        headers = {"authorization": shown} if shown is not None else {}
        response = stranger.post("/v1/retrieve", json={"triggers": ["i00"]}, headers=headers)
        said(response, 401, "Bearer")
        assert response.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert stranger.get(path).status_code == 200


def test_the_token_opens(guarded: Router) -> None:
    assert guarded.retrieve(triggers=["i00"], k=3)["candidates"]
    assert caller_of(f"bearer {TOKEN}".encode(), {TOKEN.encode(): ""}) == ""


def test_a_body_over_the_limit_is_not_read(guarded: Router) -> None:
    said(guarded.client.post("/v1/retrieve", content=b"x" * 9000), 413, "8 KB")
    chunks = (b"x" * 1000 for _ in range(12))
    said(guarded.client.post("/v1/retrieve", content=chunks), 413, "8 KB")


def test_a_slow_sender_is_turned_away_and_holds_no_place(guarded: Router) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as slow:
        head = (
            f"POST /v1/retrieve HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            f"{TOKEN}\r\ncontent-length: 20\r\n\r\n{{"
        )
        slow.sendall(head.encode())
        time.sleep(0.1)
        assert guarded.metric("mtmh_in_flight") == 0
        answer = slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error"' in answer


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, ["user_id", "triggers"]),
        ({"triggers": ["i00"], "k": 21}, ["limits.k"]),
        ({"triggers": ["i00"], "k": 501}, ["k", "501"]),
        ({"triggers": ["i00"], "k": 0}, ["k"]),
        ({"triggers": ["i00"], "k": 2.5}, ["k"]),
        ({"triggers": ["i00"], "alpha": False}, ["alpha"]),
        ({"triggers": ["i00"], "filters": {"exclude_seen": 0}}, ["filters.exclude_seen"]),
        ({"triggers": [{"item_id": "x", "content": [1e58]}]}, ["content.0"]),
        ({"triggers": ["i00"] * 6}, ["limits.triggers"]),
        ({"triggers": ["i00"] * 51}, ["triggers"]),
        ({"triggers": [""]}, ["triggers.0"]),
        ({"triggers": ["x" * 257]}, ["triggers.0"]),
        ({"triggers": ["i00"], "alpha": 101}, ["alpha"]),
        ({"triggers": ["i00"], "filter": {}}, ["filter: no such key"]),
        ({"triggers": ["i00"], "filters": {"max_age_hours": -1}}, ["filters.max_age_hours"]),
        ({"triggers": ["i00"], "k": "many", "alpha": None, "user": 3}, ["k", "user: no such key"]),
        ([1], ["body"]),
    ],
)
def test_a_wrong_request_is_explained(guarded: Router, asked: object, words: list[str]) -> None:
    said(guarded.client.post("/v1/retrieve", json=asked), 422, *words)


BROKEN = [
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    b'{"k": NaN}',
    b'{"alpha": 1e999}',
    b'{"triggers": ["i00"], "alpha": NaN}',
]
BROKEN += [
    b'{"user_id": "\\ud800"}',
    b'{"triggers": ["\\udfff"]}',
    b"[" * 5000,
    b'{"k": 1' + b"0" * 5000 + b"}",
]


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize(
    "call", ["retrieve", "similar", "compare", "retrieve/batch", "engagements"]
)
def test_what_is_no_request_is_explained(guarded: Router, call: str, body: bytes) -> None:
    said(
        guarded.client.post(
            f"/v1/{call}", content=body, headers={"content-type": "application/json"}
        ),
        422,
    )


def test_odd_ids_are_answers(guarded: Router) -> None:
    for odd in ("\x00", "🦆" * 64, "' or 1=1 --", "../../etc/passwd", " "):
        assert guarded.retrieve(triggers=[odd])["candidates"] == []
        assert guarded.retrieve(user_id=odd)["candidates"] == []


def test_a_batch_over_the_limit_is_refused(guarded: Router) -> None:
    asked = {"requests": [{"triggers": ["i00"]}] * 3}
    said(guarded.client.post("/v1/retrieve/batch", json=asked), 422, "limits.batch")


def test_unknown_paths_and_methods_are_told_in_the_same_form(guarded: Router) -> None:
    said(guarded.client.get("/v2/retrieve"), 404, "openapi.json")
    response = guarded.client.get("/v1/retrieve")
    said(response, 405)
    assert response.headers["allow"] == "POST"


def test_every_status_is_declared(guarded: Router) -> None:
    page = guarded.client.get("/openapi.json").json()
    for path, methods in page["paths"].items():
        for call in methods.values():
            if path.startswith("/v1/"):
                assert {"200", "401", "408", "413", "422", "429", "503"} <= set(call["responses"])
                assert "500" not in call["responses"]
    for name in ("RetrieveRequest", "Answer", "Problem", "Filters", "Trigger"):
        assert name in page["components"]["schemas"]


def test_a_callers_request_id_is_kept_where_it_is_one(guarded: Router) -> None:
    asked = {"json": {"triggers": ["i00"]}}
    kept = guarded.client.post("/v1/retrieve", headers={"x-request-id": "mine-7"}, **asked)
    assert kept.json()["request_id"] == kept.headers["x-request-id"] == "mine-7"
    odd = guarded.client.post(
        "/v1/retrieve", headers={"x-request-id": "a b\u00e4".encode()}, **asked
    )
    assert len(odd.json()["request_id"]) == 32


def test_the_log_is_json_without_secrets(guarded: Router, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mtmh.router")
    answer = guarded.retrieve(triggers=["i00"], k=3)
    guarded.client.post(
        "/v1/retrieve", json={"user_id": "u-private"}, headers={"authorization": "Bearer wrong"}
    )
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    mine = next(line for line in lines if line.get("request_id") == answer["request_id"])
    assert (mine["path"], mine["status"], mine["model_version"], mine["candidates"]) == (
        "/v1/retrieve",
        200,
        "1",
        3,
    )
    text = json.dumps(lines)
    assert TOKEN not in text
    assert "wrong" not in text
    assert "u-private" not in text


def test_what_breaks_inside_is_told_without_its_traceback(
    guarded: Router, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(guarded.service.retrieval, "_merge", broken)
        body = said(guarded.client.post("/v1/retrieve", json={"triggers": ["i00"]}), 500)
    assert "secret" not in json.dumps(body)
    record = next(record for record in caplog.records if record.exc_info)
    assert body["request_id"] in JsonLines().format(record)
    assert guarded.retrieve(triggers=["i00"], k=3)["candidates"]


def test_what_does_not_fit_is_shed_at_once(run_router: Run) -> None:
    with run_router("limits.in_flight=2", "limits.batch=2") as router:
        url, results = f"http://127.0.0.1:{router.port}/v1/retrieve", []

        def press() -> None:
            with httpx.Client() as client:
                results.extend(
                    client.post(url, json={"triggers": ["i00", "i05"], "k": 30}) for _ in range(25)
                )

        threads = [threading.Thread(target=press) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = {response.status_code for response in results}
        assert statuses == {200, 429}
        shed = [response for response in results if response.status_code == 429]
        for response in shed:
            said(response, 429, "2")
            assert int(response.headers["retry-after"]) >= 1
        assert router.metric("mtmh_shed_requests_total") == len(shed)
        eventually(lambda: router.metric("mtmh_in_flight") == 0, "all places are free again")
        router.retrieve(triggers=["i00"])


def test_admission_counts_a_batch_as_its_requests() -> None:
    admission = Admission(Limits(in_flight=3, batch=3), Metrics())
    with admission.admit(2), admission.admit(1):
        with pytest.raises(RequestError) as refused, admission.admit(1):
            pass
        assert (refused.value.status, refused.value.retry_after) == (429, 1)
    with admission.admit(3):
        assert admission.taken == 3
    assert admission.taken == 0


def test_a_token_that_changes_is_read_again(run_router: Run, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    with run_router(f"auth.token_file={file}", token="first") as router:
        router.retrieve(triggers=["i00"])
        file.write_text("second")
        eventually(
            lambda: router.client.get("/v1/items").status_code == 401, "the old token is refused"
        )
        router.client.headers["authorization"] = "Bearer second"
        router.retrieve(triggers=["i00"])
