"""The router over gRPC: mtmh.proto's two calls, in the same process, by the same checks and the same service."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from grpc import aio
from pydantic import ValidationError

from mtmh.errors import UserError
from serving.router import schema
from serving.router.generated import mtmh_pb2 as wire
from serving.router.guard import REQUEST_ID
from serving.router.limits import Deadline, RequestError, shows_token
from serving.router.service import Service

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
Asked = TypeVar("Asked", schema.RetrieveRequest, schema.SimilarRequest)
Answering = Callable[[Asked, str, Deadline], Awaitable[dict[str, Any]]]

log = logging.getLogger("mtmh.router")


class Calls:
    """What mtmh.proto's service Router does."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def retrieve(self, request: wire.RetrieveRequest, context: aio.ServicerContext) -> wire.Answer:
        """As POST /v1/retrieve."""
        asked = _given(request, "user_id", "k", "alpha")
        if request.triggers:
            asked["triggers"] = [_trigger(one) for one in request.triggers]
        if request.HasField("filters"):
            asked["filters"] = _filters(request.filters)
        return await self._answer(schema.RetrieveRequest, asked, self.service.retrieve, context)

    async def similar(self, request: wire.SimilarRequest, context: aio.ServicerContext) -> wire.Answer:
        """As POST /v1/similar."""
        asked = _given(request, "k", "alpha", "user_id") | {"item_id": _trigger(request.item)}
        return await self._answer(schema.SimilarRequest, asked, self.service.similar, context)

    async def _answer(
        self, model: type[Asked], asked: dict[str, Any], call: Answering[Asked], context: aio.ServicerContext
    ) -> wire.Answer:
        metadata = {key: _text(value).encode() for key, value in context.invocation_metadata() or ()}
        given = metadata.get("x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        context.set_trailing_metadata((("x-request-id", request_id),))
        status = 200
        try:
            if not shows_token(metadata.get("authorization", b""), self.service.tokens):
                raise RequestError(401, "authorization: Bearer TOKEN is missing, or its token is not the router's.")
            with self.service.admit() as deadline:
                if (left := context.time_remaining()) is not None:  # the caller may have less patience
                    deadline.end = min(deadline.end, deadline.start + left)
                return _wire(await call(model.model_validate(asked), request_id, deadline))
        except ValidationError as error:
            status, message = 422, schema.explain(error.errors(include_url=False))
        except RequestError as error:
            status, message = error.status, error.message
        except Exception:
            log.exception("request failed", extra={"told": {"request_id": request_id}})
            status, message = 500, "the router failed; its log says why, under this request's id."
        finally:
            name = model.__name__
            self.service.metrics.requests.labels(f"grpc {name}", str(status)).inc()
            log.info("request", extra={"told": {"request_id": request_id, "method": f"grpc {name}", "status": status}})
        await context.abort(CODES.get(status, grpc.StatusCode.INTERNAL), message)
        raise AssertionError("abort raises")


async def start(service: Service) -> aio.Server | None:
    """Listen on listen.grpc_port; None where that is null. Raises UserError when the port is taken."""
    listen = service.settings.listen
    if listen.grpc_port is None:
        return None
    options = [("grpc.max_receive_message_length", 1024 * service.settings.limits.body_kb), ("grpc.so_reuseport", 0)]
    server = aio.server(options=options)
    calls = Calls(service)
    handlers = {
        "Retrieve": _handler(calls.retrieve, wire.RetrieveRequest),
        "Similar": _handler(calls.similar, wire.SimilarRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mtmh.v1.Router", handlers),))
    try:
        server.add_insecure_port(f"{listen.host}:{listen.grpc_port}")
    except RuntimeError:
        raise UserError(f"port {listen.grpc_port} is taken: give the router another listen.grpc_port.") from None
    await server.start()
    return server


def _handler(call: Any, request: Any) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=request.FromString, response_serializer=wire.Answer.SerializeToString
    )


def _given(request: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(request, name) for name in names if request.HasField(name)}


def _trigger(one: wire.Trigger) -> dict[str, Any]:
    told = {"item_id": one.item_id, "id_features": dict(one.id_features), "float_features": dict(one.float_features)}
    return told | ({"content": list(one.content)} if one.content else {})


def _filters(filters: wire.Filters) -> dict[str, Any]:
    told = _given(filters, "exclude_seen", "max_age_hours") | {"deny_topics": list(filters.deny_topics)}
    return told | ({"allow_topics": list(filters.allow_topics)} if filters.allow_topics else {})


def _wire(answer: dict[str, Any]) -> wire.Answer:
    candidates = [wire.Candidate(**one) for one in answer["candidates"]]
    return wire.Answer(**{**answer, "candidates": candidates})


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
