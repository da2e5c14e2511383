"""A request's body: read within its bounds before anything works on it, then made a request of
schema.py.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from starlette.types import Message, Receive

from serving.router import schema
from serving.router.limits import RequestError
from serving.router.settings import Limits

LARGE = ("/v1/retrieve/batch", "/v1/engagements")  # may be as large as limits.body_kb
# A full one, with features, is less.
BODY_KB = {
    "/v1/retrieve": 512,
    "/v1/compare": 512,
    "/v1/similar": 128,
}
OTHER_KB = 8  # all other calls do without a body
KEYS = 256  # in one object; no part of a request has more
# How long, and for how many bytes, an unread body is still taken in.
LINGER_SECONDS, LINGER_BYTES = 5.0, 64 * 2**20

RequestModel = TypeVar("RequestModel", bound=schema.StrictRequest)


class HungUpError(Exception):
    """The caller is gone."""


def has_body(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body comes behind these headers."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def whole_body(
    path: str, headers: Mapping[bytes, bytes], receive: Receive, limits: Limits
) -> Receive:
    """Read the body: a `receive` that gives it at once, so that a slow sender holds no place.

    Raises RequestError 413 and 408, HungUpError when the caller is gone before the end of it.
    """
    if not has_body(headers):
        return receive
    kb = limits.body_kb if path in LARGE else min(BODY_KB.get(path, OTHER_KB), limits.body_kb)
    why = " (limits.body_kb)" if kb == limits.body_kb else ""
    too_large = RequestError(413, f"the body is larger than {kb} KB{why}: send less.")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > 1024 * kb:
        raise too_large
    parts, size, more = [], 0, True
    try:
        async with asyncio.timeout(limits.body_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HungUpError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > 1024 * kb:
                    raise too_large
                more = message.get("more_body", False)
    except TimeoutError:
        raise RequestError(
            408, f"the body did not arrive in {limits.body_seconds:g} s: send it faster."
        ) from None
    whole: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

    async def replay() -> Message:
        # Behind the body comes what the server says next: that the caller is gone.
        return whole.pop() if whole else await receive()

    return replay


async def linger(receive: Receive) -> None:
    """Take in and forget what is left of a body, for a moment: a caller who is still sending would
    not see the answer.

    Most clients read nothing before they have sent everything, and a connection that is closed
    under them is an error.
    """
    size, more = 0, True
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while more and size < LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        return


def read_request(model: type[RequestModel], body: bytes) -> RequestModel:
    """The request in a body. Raises RequestError 422 that says what is wrong with it.

    pydantic gathers every error of a body, so one with very many keys costs very much: they are
    counted first, and of a list the first wrong element is told.
    """
    try:
        return model.model_validate_json(body if body.count(b":") <= KEYS else _narrow(body))
    except ValidationError as error:
        raise RequestError(422, schema.explain(error.errors(include_url=False))) from None


def _narrow(body: bytes) -> bytes:
    """The body with each key once. Raises RequestError 422 when it is no JSON, or an object in it
    has too many keys.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            422, f"the body is no JSON ({error}): write it as /openapi.json says."
        ) from None
    # A stack instead of recursion: deep nesting must not exhaust Python's own.
    values: list[Any] = [[content]]
    while values:
        value = values.pop()
        if isinstance(value, dict) and len(value) > KEYS:
            # Three names, cut short, so that the message does not grow with the body.
            names = ", ".join(ascii(name[:40]) for name in list(value)[:3])
            raise RequestError(
                422,
                f"an object has {len(value)} keys ({names}, ..): no part of a request has so many.",
            )
        parts = value.values() if isinstance(value, dict) else value
        values.extend(part for part in parts if isinstance(part, dict | list))
    # Written again, a key that was repeated stands there once.
    return orjson.dumps(content)
