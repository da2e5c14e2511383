"""grpc.health.v1, the standard health service: what /readyz says of "" and mtmh.v1.Router, without
a token as well.

It is written here, as in grpcio-health-checking's own a watcher that does not read holds up every
change of the status, and one that leaves takes the others' news along.
"""

import asyncio

import grpc
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.router.versions import Versions

NAMES = ("", "mtmh.v1.Router")
WATCHERS = 64  # at once: each holds one of the calls that the server takes
POLL_SECONDS = 0.25  # how late a watcher may hear of a change
Status = HealthCheckResponse.ServingStatus


class HealthService:
    """Answers Check, and tells those who Watch of each change; `stopped` ends the watching."""

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self.watchers = 0
        self.stopped = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """What the server takes."""
        messages = (HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString)
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, *messages),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, *messages),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    async def _check(
        self, request: HealthCheckRequest, context: aio.ServicerContext
    ) -> HealthCheckResponse:
        status = self._status(request.service)
        if status == Status.SERVICE_UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "no such service here; mtmh.v1.Router is."
            )
        return HealthCheckResponse(status=status)

    async def _watch(self, request: HealthCheckRequest, context: aio.ServicerContext) -> None:
        if self.watchers >= WATCHERS:
            text = f"{WATCHERS} watch already: ask Check now and then."
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self.watchers += 1
        try:
            last = None
            while not self.stopped:
                status = self._status(request.service)
                if status != last:
                    await context.write(HealthCheckResponse(status=status))
                last = status
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self.watchers -= 1

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        if service not in NAMES:
            return Status.SERVICE_UNKNOWN
        return Status.SERVING if self.versions.ready and not self.stopped else Status.NOT_SERVING
