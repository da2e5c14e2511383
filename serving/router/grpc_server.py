"""The router over gRPC: mtmh.proto's two calls, in the same process, by the same checks and the
same service.
"""

import asyncio
import logging
import resource
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from pydantic import ValidationError

from mtmh.errors import UserError
from serving.router import schema
from serving.router.body import BODY_KB
from serving.router.connection import HEADER_BYTES
from serving.router.generated import mtmh_pb2 as wire
from serving.router.guard import HUNG_UP, REQUEST_ID
from serving.router.health import HealthService
from serving.router.limits import CALLER, Deadline, RequestError, caller_of
from serving.router.service import Service

STREAMS = (
    1000  # calls at once: far more than are worked on, so that who is over hears of it by a 429
)
OPTIONS = [
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
    ("grpc.server_handshake_timeout_ms", 10_000),  # who connects and says nothing
    ("grpc.keepalive_time_ms", 60_000),  # who is gone without a word
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),  # to finish the calls under way
    # Both the same: between the two limits gRPC refuses calls at random.
    ("grpc.max_metadata_size", HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", HEADER_BYTES),
]
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
RequestModel = TypeVar("RequestModel", schema.RetrieveRequest, schema.SimilarRequest)
Answering = Callable[[RequestModel, str, Deadline], Awaitable[dict[str, Any]]]

log = logging.getLogger("mtmh.router")


class Calls:
    """What mtmh.proto's service Router does."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def retrieve(
        self, messages: AsyncIterator[bytes], context: aio.ServicerContext
    ) -> wire.Answer:
        """As POST /v1/retrieve."""

        def read(message: bytes) -> schema.RetrieveRequest:
            request = wire.RetrieveRequest.FromString(message)
            fields = _given(request, "user_id", "k", "alpha") | _quotas(request)
            if request.triggers:
                fields["triggers"] = [_trigger(trigger) for trigger in request.triggers]
            if request.HasField("filters"):
                filters = _given(request.filters, "exclude_seen", "max_age_hours")
                filters["deny_topics"] = list(request.filters.deny_topics)
                # On the wire no list and an empty one are the same: it allows all topics.
                if request.filters.allow_topics:
                    filters["allow_topics"] = list(request.filters.allow_topics)
                fields["filters"] = filters
            return schema.RetrieveRequest.model_validate(fields)

        return await self._answer(read, messages, self.service.retrieve, context)

    async def similar(
        self, messages: AsyncIterator[bytes], context: aio.ServicerContext
    ) -> wire.Answer:
        """As POST /v1/similar."""

        def read(message: bytes) -> schema.SimilarRequest:
            request = wire.SimilarRequest.FromString(message)
            fields = _given(request, "k", "alpha", "user_id") | _quotas(request)
            fields["item_id"] = _trigger(request.item)
            return schema.SimilarRequest.model_validate(fields)

        return await self._answer(read, messages, self.service.similar, context)

    async def _answer(
        self,
        read: Callable[[bytes], RequestModel],
        messages: AsyncIterator[bytes],
        call: Answering[RequestModel],
        context: aio.ServicerContext,
    ) -> wire.Answer:
        """The token first, then the message, which may not have arrived yet.

        A caller's own deadline cancels the call, so it never counts as an answer that the router
        owes.
        """
        # As bytes, the way HTTP headers come, so that both go through the same checks.
        pairs = [
            (key, (value if isinstance(value, str) else value.decode("latin-1")).encode())
            for key, value in context.invocation_metadata() or ()
        ]
        metadata, name = dict(pairs), read.__annotations__["return"].__name__
        given = metadata.get("x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        # Set before anything can fail, so that errors carry the id as well.
        context.set_trailing_metadata((("x-request-id", request_id),))
        status = 200
        CALLER.set("")
        try:
            # Given two tokens, a proxy in front may have looked at the other one.
            several = sum(key == "authorization" for key, _ in pairs) > 1
            caller = caller_of(metadata.get("authorization", b""), self.service.tokens)
            if several or caller is None:
                raise RequestError(
                    401,
                    "authorization: Bearer TOKEN is missing, given twice, or not the router's "
                    "token.",
                )
            CALLER.set(caller)
            message = await self._message(messages)
            with self.service.admit() as deadline:
                return wire.Answer(**await call(read(message), request_id, deadline))
        except DecodeError:
            status, text = 422, "the message is none of mtmh.proto's: send what it describes."
        except ValidationError as error:
            status, text = 422, schema.explain(error.errors(include_url=False))
        except RequestError as error:
            status, text = error.status, error.message
        except asyncio.CancelledError:
            status = HUNG_UP
            raise
        except Exception:
            log.exception("request failed", extra={"fields": {"request_id": request_id}})
            status, text = 500, "the router failed; its log says why, under this request's id."
        finally:
            # Counted and logged however the call ends, even if the caller has left.
            self.service.metrics.requests.labels(f"grpc {name}", str(status)).inc()
            if caller := CALLER.get():
                self.service.metrics.callers.labels(caller, str(status)).inc()
            fields = {"request_id": request_id, "caller": caller, "method": f"grpc {name}"}
            fields["status"] = status
            log.info("request", extra={"fields": fields})
        await context.abort(CODES.get(status, grpc.StatusCode.INTERNAL), text)
        raise AssertionError("abort raises")

    async def _message(self, messages: AsyncIterator[bytes]) -> bytes:
        """The one message of a call, which has as long to arrive as a body over HTTP. Raises
        RequestError.
        """
        seconds = self.service.settings.limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await anext(messages)
        except TimeoutError:
            raise RequestError(
                408, f"the message did not arrive in {seconds:g} s: send it faster."
            ) from None
        except StopAsyncIteration:
            raise RequestError(
                422, "the call has no message: send what mtmh.proto describes."
            ) from None


class Rpc:
    """The server on listen.grpc_port, and its health service."""

    def __init__(self, server: aio.Server, health: HealthService) -> None:
        self.server, self.health = server, health

    async def stop(self, grace: float) -> None:
        """Let calls end, for `grace` seconds."""
        self.health.stopped = True
        await self.server.stop(grace)


async def start(service: Service) -> Rpc | None:
    """Listen on listen.grpc_port; None where that is null. Raises UserError when the port is
    taken.
    """
    listen, limits = service.settings.listen, service.settings.limits
    if listen.grpc_port is None:
        return None
    # A quarter of the files that this process may open are gRPC's connections, half are HTTP's.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = files // 4 if files != resource.RLIM_INFINITY else limits.connections
    bounds = [
        ("grpc.max_receive_message_length", 1024 * min(limits.body_kb, BODY_KB["/v1/retrieve"])),
        ("grpc.max_concurrent_streams", STREAMS),
        # Callers spread anew over the routers that there are.
        ("grpc.max_connection_age_ms", round(1000 * listen.grpc_connection_seconds)),
        ("grpc.max_allowed_incoming_connections", min(limits.connections, most)),
    ]
    server = aio.server(options=[*OPTIONS, *bounds], maximum_concurrent_rpcs=STREAMS)
    calls, health = Calls(service), HealthService(service.versions)
    handlers = {"Retrieve": _handler(calls.retrieve), "Similar": _handler(calls.similar)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("mtmh.v1.Router", handlers),)
    )
    server.add_generic_rpc_handlers((health.handlers(),))
    address, pair = f"{listen.host}:{listen.grpc_port}", listen.tls.read()
    try:
        if pair is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, grpc.ssl_server_credentials([(pair[1], pair[0])]))
    except RuntimeError:
        raise UserError(
            f"port {listen.grpc_port} is taken: give the router another listen.grpc_port."
        ) from None
    await server.start()
    return Rpc(server, health)


def _handler(call: Any) -> grpc.RpcMethodHandler:
    """On the wire a call of one message is a stream of one: so it is ours when it begins, and not
    when it is whole.
    """
    return grpc.stream_unary_rpc_method_handler(
        call, response_serializer=wire.Answer.SerializeToString
    )


def _given(request: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(request, name) for name in names if request.HasField(name)}


def _quotas(request: wire.RetrieveRequest | wire.SimilarRequest) -> dict[str, Any]:
    """On the wire no quotas and empty ones are the same: none are given."""
    return {"quotas": dict(request.quotas)} if request.quotas else {}


def _trigger(message: wire.Trigger) -> dict[str, Any]:
    fields = {
        "item_id": message.item_id,
        "id_features": dict(message.id_features),
        "float_features": dict(message.float_features),
    }
    return fields | ({"content": list(message.content)} if message.content else {})
