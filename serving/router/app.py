"""The router over HTTP: FastAPI's routes and OpenAPI page; answers are written by orjson."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, cast

import orjson
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BeforeValidator
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

import mtmh
from mtmh.errors import UserError
from serving.router import grpc_server, schema
from serving.router.body import read_request
from serving.router.connection import BoundedProtocol
from serving.router.guard import Guard, log_as_json, problem
from serving.router.limits import RequestError, check_times
from serving.router.pages import add_page, comparison, item
from serving.router.service import Service
from serving.router.settings import Source

JSON = "application/json"
WRONG = {  # what every call may be answered with instead
    401: "No token, or another one than the router's",
    403: "A page of another site asks a router that asks for no token",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not declared as application/json",
    422: "The request is wrong; the text says what",
    429: "Too many requests at once; Retry-After says when to come back",
    503: "Nothing to answer with now; Retry-After says when to come back",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.Problem, "description": text} for status, text in WRONG.items()
}

BODIES: dict[str, type[schema.StrictRequest]] = {  # POST
    "/v1/retrieve": schema.RetrieveRequest,
    "/v1/retrieve/batch": schema.BatchRequest,
    "/v1/similar": schema.SimilarRequest,
    "/v1/compare": schema.RetrieveRequest,
    "/v1/engagements": schema.EngagementsRequest,
}


def create_app(service: Service) -> FastAPI:
    """The application; it starts and stops the service with itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        other = await grpc_server.start(service)
        yield
        if other is not None:
            await other.stop(grace=5)
        await service.stop()

    app = FastAPI(
        title="mtmh router",
        version=mtmh.__version__,
        description="Item-to-item retrieval, both engaging and relevant: channels behind a quota "
        "merge.",
        lifespan=lifespan,
        docs_url=None,  # its page would come from another server
        redoc_url=None,
        redirect_slashes=False,  # its redirects would go to whatever host the caller names
    )
    _retrieval(app, service)
    _reading(app, service)
    _operations(app, service)
    add_page(app, service, PROBLEMS)
    app.add_middleware(Shortcut, routes=app.routes)
    app.add_middleware(
        Guard,
        limits=lambda: service.settings.limits,
        tokens=lambda: service.tokens,
        metrics=service.metrics,
    )
    # Of a RequestError the guard makes an answer.
    for kind in (RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer_refused)
    return app


class Shortcut:
    """ASGI middleware: bodies are read, and their routes' functions called, right here.

    FastAPI, which declares them, would do the same, by way of its routing, dependencies, exit
    stacks and parsing: a third of a millisecond, and with less strict types.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self.routes = {
            route.path: route
            for route in routes
            if isinstance(route, APIRoute) and route.path in BODIES
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = (
            self.routes.get(scope["path"])
            if scope["type"] == "http" and scope["method"] == "POST"
            else None
        )
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"], request = route, Request(scope, receive)
        body = read_request(BODIES[route.path], await request.body())
        response = await route.endpoint(body, request)
        await response(scope, receive, send)


def _retrieval(app: FastAPI, service: Service) -> None:
    @app.post("/v1/retrieve", response_model=schema.Answer, responses=PROBLEMS)
    async def retrieve(body: schema.RetrieveRequest, request: Request) -> Response:
        """Candidates for a user, for triggers, or for both."""
        with service.admit() as deadline:
            # Admitted first: the deadline runs from here, and a 429 costs no work.
            answer = await service.retrieve(body, request.state.request_id, deadline)
        return _answered(request, answer)

    @app.post("/v1/retrieve/batch", response_model=schema.BatchAnswer, responses=PROBLEMS)
    async def retrieve_batch(body: schema.BatchRequest, request: Request) -> Response:
        """Several requests at once; each has its answer, or what was wrong with it, in order."""
        # No admit here: the service lets in the requests of a batch all together, or none.
        request_id = request.state.request_id
        return _json(
            {"request_id": request_id, "answers": await service.batch(body.requests, request_id)}
        )

    @app.post("/v1/similar", response_model=schema.Answer, responses=PROBLEMS)
    async def similar(body: schema.SimilarRequest, request: Request) -> Response:
        """The items most like one item, of all channels, merged."""
        with service.admit() as deadline:
            answer = await service.similar(body, request.state.request_id, deadline)
        return _answered(request, answer)

    @app.post("/v1/compare", response_model=schema.Comparison, responses=PROBLEMS)
    async def compare(body: schema.RetrieveRequest, request: Request) -> Response:
        """Each channel's list and the merge, with titles and topics; exposes nobody to anything,
        so it is not logged.
        """
        with service.admit() as deadline:
            result = await service.retrieval.retrieve(body, service.settings.limits, deadline)
            return _json(comparison(result, request.state.request_id, deadline))


def _reading(app: FastAPI, service: Service) -> None:
    @app.post("/v1/engagements", response_model=schema.Logged, responses=PROBLEMS)
    async def engagements(body: schema.EngagementsRequest, request: Request) -> Response:
        """Keep what users did: on disk when this answers."""
        check_times(body.engagements, service.settings.limits.engagement_days)
        with service.admit():
            # The key becomes part of records: it must be short, printable ASCII.
            key = request.headers.get("idempotency-key")
            if key is not None and not re.fullmatch("[ -~]{1,128}", key):
                text = "give 1 to 128 printable ASCII characters, such as a UUID."
                raise RequestError(422, f"Idempotency-Key: {text}")
            logged = await service.engagements(body.engagements, request.state.request_id, key)
        return _json({"request_id": request.state.request_id, "logged": logged})

    @app.get("/v1/items", response_model=schema.Items, responses=PROBLEMS)
    async def items(
        request: Request,
        q: Annotated[
            str, Query(max_length=256, description="Part of a title or an item_id, in any case.")
        ] = "",
        limit: Annotated[int, BeforeValidator(schema.digits), Query(ge=1, le=100)] = 20,
    ) -> Response:
        """Items to choose a trigger from."""
        with service.admit(), service.retrieval.version(None) as (package, _):
            matches = [item(package, row) for row in await package.find(q, limit)]
            request_id = request.state.request_id
            return _json(
                {"request_id": request_id, "model_version": package.number, "items": matches}
            )


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=schema.Health)
    async def healthz() -> Response:
        """The process answers."""
        # Triton does not matter here: restarting this process would not bring it back.
        return _json({"status": "alive"})

    @app.get(
        "/readyz",
        response_model=schema.Health,
        responses={503: {"model": schema.Health}},
    )
    async def readyz() -> Response:
        """A version takes traffic, and answers; `silent` heads make its answers degraded."""
        versions = service.versions
        # Either nothing is loaded yet, or what is loaded does not answer.
        waiting = "waiting for the heads to answer" if versions.serving else "waiting for a version"
        status = "ready" if versions.ready else waiting
        named = versions.serving.named if versions.serving else None
        # Listed even when ready: the old version goes on serving, and nobody would notice.
        health = {
            "status": status,
            "model_version": named.champion if named else None,
            "instead_of": versions.instead_of,
            "canary": named.canary or None if named else None,
            "canary_share": named.share if named else 0.0,
            "refused": versions.refusals.reasons,
            "waiting": versions.refusals.waiting,
            "silent": versions.silent,
            "champion_named_us": versions.refusals.champion_named_us,
        }
        return _json(health, 200 if versions.ready else 503)

    @app.get(
        "/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}}
    )
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _answered(request: Request, answer: dict[str, Any]) -> Response:
    request.state.log_fields = {
        "model_version": answer["model_version"],
        "arm": answer["arm"],
        "missing": answer["missing"],
        "candidates": len(answer["candidates"]),
    }
    return _json(answer)


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type=JSON)


async def _answer_refused(request: Request, error: Exception) -> Response:
    """What FastAPI refuses, in the form that every problem has here."""
    if isinstance(error, RequestValidationError):
        status, more, text = 422, None, schema.explain(list(error.errors()))
    else:
        assert isinstance(error, HTTPException)
        status, more = error.status_code, error.headers
        call = f"{request.method} {request.url.path!a}"
        text = f"{call}: {error.detail}; see /openapi.json for what there is."
    body, headers = problem(request.state.request_id, status, text)
    response = Response(body, status, {name.decode(): value.decode() for name, value in headers})
    response.headers.update(more or {})  # such as Allow
    return response


def make_server(source: Source) -> tuple[Service, uvicorn.Server]:
    """The router, ready to run. Raises UserError on a wrong configuration."""
    service = Service(source)
    listen = service.settings.listen
    listen.tls.read()  # what is wrong with the files is said before anything starts
    # A function, since the limits may change while the router runs.
    protocol = partial(
        BoundedProtocol, metrics=service.metrics, limits=lambda: service.settings.limits
    )
    # Switched off is what this router does by itself, or does not want at all.
    config = uvicorn.Config(
        create_app(service),
        host=listen.host,
        port=listen.port,
        loop="uvloop",
        http=cast(type[asyncio.Protocol], protocol),
        ws="none",
        ssl_certfile=listen.tls.certificate_file,
        ssl_keyfile=listen.tls.key_file,
        log_config=None,  # log_as_json has set up the log
        access_log=False,  # guard.py writes a line for every request
        server_header=False,
        timeout_keep_alive=75,  # longer than what load balancers keep a connection
        proxy_headers=False,  # a caller can write any address there
        timeout_graceful_shutdown=5,  # seconds to finish the answers under way
    )
    return service, uvicorn.Server(config)


def serve(source: Source) -> None:
    """Run the router in the foreground until SIGINT or SIGTERM. Raises UserError when it cannot
    start.
    """
    log_as_json()
    _, server = make_server(source)
    try:
        server.run()
    except SystemExit:  # uvicorn's word for a start that failed; it has said why
        raise UserError(
            "the router did not start; the line above says why, such as a port that is taken."
        ) from None
    except KeyboardInterrupt:  # uvicorn has stopped, and hands the signal on
        pass
