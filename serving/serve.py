"""Triton and the router together, in the foreground of one machine; on a cluster each has pods of
its own (k8s/).
"""

import logging
import secrets
import signal
from dataclasses import replace
from pathlib import Path

from serving.router.app import serve as route
from serving.router.settings import Source
from serving.triton.supervisor import HOST, Ports, triton


def serve(store: Path, ports: Ports, source: Source) -> None:
    """Serve the champion of `store` until SIGINT or SIGTERM; both processes have stopped when this
    returns.

    `source` are the router's settings; its store and its Triton are those given here. Raises
    UserError when there is no champion, a port is taken, Triton is not installed, or the router
    cannot start.
    """
    logging.getLogger("mtmh.triton").setLevel(logging.INFO)
    # These come last: no other setting may point the router at another Triton.
    overrides = [
        f"store={store.resolve()}",
        f"triton.url={HOST}:{ports.grpc}",
        "triton.manages_models=true",
    ]
    source = Source(source.path, [*source.settings, *overrides])
    settings = source.read()  # what is wrong with them is said before Triton starts
    listen = settings.listen
    # Both act like Ctrl-C, so that Triton is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)  # the terminal was closed
    # A new secret where no file has one: only these two processes need it.
    secret = settings.triton.read_secret() or secrets.token_hex(16)
    try:
        # The router loads the champion itself, as it does every later version.
        with triton(store, ports, load_champion=False, secret=secret) as server:
            http = "off" if ports.http is None else f":{ports.http}"
            print(
                f"Triton  gRPC {HOST}:{ports.grpc}, HTTP {http}, metrics :{ports.metrics}; log "
                f"{server.log}"
            )
            print(f"Router  http://{listen.host}:{listen.port}, the page is there too", flush=True)
            route(replace(source, secret=secret))
    except KeyboardInterrupt:
        pass
    print("stopped", flush=True)
