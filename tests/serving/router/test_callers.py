"""A token for each caller: who calls is known by name, in figures, log and bounds."""

import logging
from pathlib import Path

import grpc
import pytest
from helpers.live_router import Run, eventually
from helpers.processes import free_ports

from mtmh.errors import UserError
from serving.router.configuration import read_tokens
from serving.router.generated import mtmh_pb2 as wire
from serving.router.limits import CALLER, Admission, RequestError, caller_of
from serving.router.metrics import Metrics
from serving.router.settings import Limits

TOKENS = "web: one\nweb: two\nmail.daily: three\nfour\n"


def test_lines_give_callers_tokens_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKENS)
    tokens = read_tokens(file)
    shown = {
        token: caller_of(f"Bearer {token}".encode(), tokens) for token in ("one", "two", "four")
    }
    assert shown == {"one": "web", "two": "web", "four": ""}
    assert caller_of(b"Bearer three", tokens) == "mail.daily"
    for nobody in (b"Bearer web: one", b"Bearer web", b"Bearer five", b"Basic one", b"one", b""):
        assert caller_of(nobody, tokens) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: a\nweb: b\nweb: c\n", "has 3 tokens of web"),
        ("a\nb\nc\n", "has 3 tokens. Two at the most"),
        ("web: a\nmail: a\n", "two callers have the same token"),
        ("\n".join(f"c{n}: t{n}" for n in range(101)), "has 101 callers"),
        ("\n \n", "is empty"),
    ],
)
def test_a_file_with_too_much_or_nothing_is_explained(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(UserError, match=message):
        read_tokens(tmp_path / "token")


def test_one_caller_does_not_take_the_places_of_the_others() -> None:
    admission = Admission(Limits(in_flight=5, in_flight_per_caller=2, batch=5), Metrics())
    CALLER.set("web")
    with admission.admit(2):
        with pytest.raises(RequestError, match="2 requests of web are being worked on"):
            admission.admit().__enter__()
        CALLER.set("mail")
        with admission.admit(2):
            CALLER.set("")  # a token without a name: only the bound of all
            with admission.admit(1), pytest.raises(RequestError, match="5 requests are being"):
                admission.admit().__enter__()
        CALLER.set("web")
    with admission.admit(2):
        assert (admission.taken, admission.of_caller["web"]) == (2, 2)
    CALLER.set("")


def test_requests_are_told_apart_by_caller_over_http_and_grpc(
    run_router: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, port = tmp_path / "token", free_ports(1)[0]
    file.write_text(TOKENS)
    settings = (f"auth.token_file={file}", f"listen.grpc_port={port}")
    with caplog.at_level(logging.INFO, "mtmh.router"), run_router(*settings, token="one") as router:
        router.retrieve(triggers=["i00"])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            retrieve = channel.unary_unary(
                "/mtmh.v1.Router/Retrieve",
                wire.RetrieveRequest.SerializeToString,  # type: ignore[attr-defined]
                wire.Answer.FromString,  # type: ignore[attr-defined]
            )
            request = wire.RetrieveRequest(triggers=[wire.Trigger(item_id="i00")])
            retrieve(request, metadata=(("authorization", "Bearer three"),))
        for token in ("four", "five"):  # without a name, and nobody's
            header = {"authorization": f"Bearer {token}"}
            router.client.post("/v1/retrieve", json={"triggers": ["i00"]}, headers=header)

        def answered(caller: str) -> float:
            return router.metric("mtmh_caller_requests_total", caller=caller, status="200")

        eventually(lambda: (answered("web"), answered("mail.daily")) == (1, 1), "they are counted")
        assert router.metric("mtmh_caller_requests_total", caller="", status="401") == 0
        file.write_text("mail.daily: three\n")
        eventually(
            lambda: router.client.get("/v1/items").status_code == 401,
            "the caller is let in no more",
        )
    callers = [
        record.fields["caller"]
        for record in caplog.records
        if record.message == "request" and record.fields.get("path") == "/v1/retrieve"
    ]
    assert callers == ["web", ""]  # who is refused reaches no route
