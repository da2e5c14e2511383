"""The Python client and the gRPC interface answer what HTTP answers."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from helpers.live_router import Router, Run, eventually
from helpers.processes import free_ports

import serving.router
from serving.client import Client, RouterError
from serving.router.generated import mtmh_pb2 as wire
from serving.router.health import WATCHERS


class RouterStub:
    """The calls as a client that knows mtmh.proto makes them."""

    def __init__(self, channel: grpc.Channel) -> None:
        def call(name: str, request: type) -> grpc.UnaryUnaryMultiCallable:
            path = f"/{wire.DESCRIPTOR.services_by_name['Router'].full_name}/{name}"
            return channel.unary_unary(path, request.SerializeToString, wire.Answer.FromString)  # type: ignore[attr-defined]

        self.Retrieve = call("Retrieve", wire.RetrieveRequest)
        self.Similar = call("Similar", wire.SimilarRequest)


TOKEN = "the-token"
BEARER = (("authorization", f"Bearer {TOKEN}"),)


@pytest.fixture(scope="module")
def both(
    run_router: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Router, RouterStub]]:
    file = tmp_path_factory.mktemp("secrets") / "token"
    file.write_text(TOKEN)
    port = free_ports(1)[0]
    with (
        run_router(
            f"auth.token_file={file}",
            f"listen.grpc_port={port}",
            "limits.body_seconds=1",
            token=TOKEN,
        ) as router,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield router, RouterStub(channel)


@pytest.fixture
def channel(both: tuple[Router, RouterStub]) -> Iterator[grpc.Channel]:
    """For calls of any bytes."""
    port = both[0].service.settings.listen.grpc_port
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened


def agrees(answer: wire.Answer, told: dict) -> bool:
    """The same candidates; scores up to what a batch of another size changes in the last digit."""
    names = ("item_id", "head", "head_rank", "trigger_id")
    same = [[getattr(one, name) for name in names] for one in answer.candidates] == [
        [one[name] for name in names] for one in told["candidates"]
    ]
    return same and [one.score for one in answer.candidates] == pytest.approx(
        [one["score"] for one in told["candidates"]], rel=1e-5
    )


def test_grpc_retrieves_as_http_does(both: tuple[Router, RouterStub]) -> None:
    router, stub = both
    triggers = [
        wire.Trigger(item_id="i00"),
        wire.Trigger(item_id="new", id_features={"creator_id": "c11"}),
    ]
    asked = wire.RetrieveRequest(
        triggers=triggers, k=9, alpha=30, filters=wire.Filters(deny_topics=["subject 1"])
    )
    answer = stub.Retrieve(asked, metadata=(*BEARER, ("x-request-id", "mine")))
    assert (answer.request_id, answer.model_version, answer.alpha, answer.degraded) == (
        "mine",
        "1",
        30,
        False,
    )
    new = {"item_id": "new", "id_features": {"creator_id": "c11"}}
    told = router.retrieve(
        triggers=["i00", new], k=9, alpha=30, filters={"deny_topics": ["subject 1"]}
    )
    assert agrees(answer, told)
    assert set(answer.timings_ms) == set(told["timings_ms"])
    user = stub.Retrieve(wire.RetrieveRequest(user_id="u03", k=5), metadata=BEARER)
    assert agrees(user, router.retrieve(user_id="u03", k=5))
    near = stub.Similar(wire.SimilarRequest(item=wire.Trigger(item_id="i07"), k=4), metadata=BEARER)
    assert agrees(near, router.post("/v1/similar", {"item_id": "i07", "k": 4}))


@pytest.mark.parametrize(
    ("asked", "metadata", "code", "word"),
    [
        (wire.RetrieveRequest(user_id="u03"), (), grpc.StatusCode.UNAUTHENTICATED, "Bearer"),
        (wire.RetrieveRequest(), BEARER, grpc.StatusCode.INVALID_ARGUMENT, "user_id"),
        (wire.RetrieveRequest(user_id="u03", k=501), BEARER, grpc.StatusCode.INVALID_ARGUMENT, "k"),
        (
            wire.RetrieveRequest(triggers=[wire.Trigger()]),
            BEARER,
            grpc.StatusCode.INVALID_ARGUMENT,
            "item_id",
        ),
        (
            wire.RetrieveRequest(user_id="u03", alpha=float("nan")),
            BEARER,
            grpc.StatusCode.INVALID_ARGUMENT,
            "alpha",
        ),
    ],
)
def test_grpc_says_what_was_wrong(
    both: tuple[Router, RouterStub],
    asked: wire.RetrieveRequest,
    metadata: tuple,
    code: grpc.StatusCode,
    word: str,
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        both[1].Retrieve(asked, metadata=metadata)
    assert refused.value.code() == code
    assert word in refused.value.details()
    assert (
        "valid string" not in refused.value.details()
    )  # an item may be an id or an object: this one is no id
    assert "x-request-id" in dict(refused.value.trailing_metadata())


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code()


@pytest.mark.parametrize("name", ["Retrieve", "Similar"])
@pytest.mark.parametrize("message", [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x08"])
def test_bytes_that_are_no_message_are_told_after_the_token(
    both: tuple[Router, RouterStub],
    channel: grpc.Channel,
    caplog: pytest.LogCaptureFixture,
    name: str,
    message: bytes,
) -> None:
    call = channel.unary_unary(f"/mtmh.v1.Router/{name}")
    path = f"grpc {name}Request"
    before = both[0].metric("mtmh_requests_total", path=path, status="422")
    assert code_of(lambda: call(message)) == grpc.StatusCode.UNAUTHENTICATED
    assert code_of(lambda: call(message, metadata=BEARER)) == grpc.StatusCode.INVALID_ARGUMENT
    eventually(
        lambda: both[0].metric("mtmh_requests_total", path=path, status="422") == before + 1,
        "it is counted",
    )
    assert not [record for record in caplog.records if record.exc_info]


def test_a_call_whose_message_never_comes_is_ended(
    both: tuple[Router, RouterStub], channel: grpc.Channel
) -> None:
    """Who has no token is answered before; nobody holds one of the calls that the server takes for
    ever.
    """
    call, never = channel.stream_unary("/mtmh.v1.Router/Retrieve"), threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    try:
        assert code_of(lambda: call(nothing())) == grpc.StatusCode.UNAUTHENTICATED
        assert (
            code_of(lambda: call(nothing(), metadata=BEARER)) == grpc.StatusCode.DEADLINE_EXCEEDED
        )
    finally:
        never.set()
    assert code_of(lambda: call(iter(()), metadata=BEARER)) == grpc.StatusCode.INVALID_ARGUMENT
    assert both[0].metric("mtmh_in_flight") == 0


def test_of_two_tokens_none_counts_over_grpc(both: tuple[Router, RouterStub]) -> None:
    metadata = (("authorization", "Bearer wrong"), *BEARER)
    asked = wire.RetrieveRequest(user_id="u03")
    assert (
        code_of(lambda: both[1].Retrieve(asked, metadata=metadata))
        == grpc.StatusCode.UNAUTHENTICATED
    )


def test_a_callers_own_deadline_is_no_answer_that_the_router_owes(
    both: tuple[Router, RouterStub],
) -> None:
    router, stub = both
    asked = wire.RetrieveRequest(
        triggers=[wire.Trigger(item_id=f"i{number:02}") for number in range(30)], k=30
    )
    calls = [stub.Retrieve.future(asked, metadata=BEARER, timeout=ms / 1000) for ms in range(1, 12)]
    codes = {call.code() for call in calls}  # waits for each
    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
    eventually(lambda: router.metric("mtmh_in_flight") == 0, "nothing is worked on")
    assert router.metric("mtmh_unanswered_total", part="heads") == 0
    assert router.metric("mtmh_requests_total", path="grpc RetrieveRequest", status="503") == 0


def test_the_standard_health_check_answers_without_a_token(
    both: tuple[Router, RouterStub], channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, status = HealthStub(channel).Check, HealthCheckResponse
    for name in ("", "mtmh.v1.Router"):
        request = HealthCheckRequest(service=name)
        eventually(lambda request=request: check(request).status == status.SERVING, "it serves")
    with monkeypatch.context() as patch:
        patch.setattr(type(both[0].service.versions), "ready", False)
        eventually(
            lambda: check(HealthCheckRequest()).status == status.NOT_SERVING, "it is not ready"
        )
    eventually(lambda: check(HealthCheckRequest()).status == status.SERVING, "it serves again")
    assert code_of(lambda: check(HealthCheckRequest(service="other"))) == grpc.StatusCode.NOT_FOUND


def says_unknown(watcher: grpc.Call) -> bool:
    try:
        return next(watcher).status == HealthCheckResponse.SERVICE_UNKNOWN
    except grpc.RpcError:
        return False
    finally:
        watcher.cancel()


def test_watchers_of_the_health_are_bounded_and_each_hears_of_a_change(
    both: tuple[Router, RouterStub], channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, status = HealthStub(channel).Watch, HealthCheckResponse
    watchers = [watch(HealthCheckRequest()) for _ in range(WATCHERS)]
    assert {next(watcher).status for watcher in watchers} == {status.SERVING}
    assert code_of(lambda: next(watch(HealthCheckRequest()))) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert both[1].Retrieve(wire.RetrieveRequest(user_id="u03", k=1), metadata=BEARER).candidates
    watchers.pop().cancel()  # those who stay hear as before
    monkeypatch.setattr(type(both[0].service.versions), "ready", False)
    assert {next(watcher).status for watcher in watchers} == {status.NOT_SERVING}
    for watcher in watchers:
        watcher.cancel()
    eventually(
        lambda: says_unknown(watch(HealthCheckRequest(service="other"))), "there is room again"
    )


def test_the_python_client(both: tuple[Router, RouterStub]) -> None:
    router, _ = both
    with Client(f"http://127.0.0.1:{router.port}", TOKEN) as client:
        answer = client.retrieve(
            triggers=["i00", "i11"], k=7, alpha=60, filters={"exclude_seen": False}
        )
        told = router.retrieve(
            triggers=["i00", "i11"], k=7, alpha=60, filters={"exclude_seen": False}
        )
        assert [one.item_id for one in answer.candidates] == [
            one["item_id"] for one in told["candidates"]
        ]
        assert (answer.model_version, answer.missing, answer.candidates[0].head_rank) == (
            "1",
            [],
            1,
        )
        assert client.similar("i00", k=3).candidates[0].trigger_id == "i00"
        assert client.similar(
            {"item_id": "new", "id_features": {"creator_id": "c11"}}, k=3
        ).candidates
        with pytest.raises(RouterError, match="triggers") as wrong:
            client.retrieve()
        assert (wrong.value.status, wrong.value.retry_after) == (422, None)
        assert wrong.value.request_id
    with (
        Client(f"http://127.0.0.1:{router.port}") as stranger,
        pytest.raises(RouterError, match="Bearer"),
    ):
        stranger.similar("i00")


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    folder = Path(serving.router.__file__).parent
    target = "serving/router/generated"
    outs = [f"--{name}_out={tmp_path}" for name in ("python", "pyi")]
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I",
        f"{target}={folder}",
        *outs,
        f"{target}/mtmh.proto",
    ]
    subprocess.run(command, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / target).iterdir()}
    assert made == {name: (folder / "generated" / name).read_text() for name in made}
    assert len(made) == 2
