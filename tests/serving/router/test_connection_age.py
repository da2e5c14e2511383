"""A gRPC connection ends after a set time, so that its client looks for the routers that there are."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from helpers.live_router import Run, eventually
from helpers.processes import free_ports


def test_a_connection_ends_after_a_while_and_its_client_makes_another(run_router: Run) -> None:
    (port,) = free_ports(1)
    states: list[grpc.ChannelConnectivity] = []
    with (
        run_router(f"listen.grpc_port={port}", "listen.grpc_connection_seconds=1"),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        channel.subscribe(states.append)
        check = HealthStub(channel).Check
        for connections in (1, 2):
            answer = check(HealthCheckRequest(), wait_for_ready=True, timeout=30)
            assert answer.status == HealthCheckResponse.SERVING
            eventually(
                lambda n=connections: (
                    states.count(grpc.ChannelConnectivity.READY) == n
                    and states[-1] == grpc.ChannelConnectivity.IDLE
                ),
                "the router ends the connection",
                seconds=20,
            )
