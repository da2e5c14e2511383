"""Load on a router: requests by an asynchronous client at a fixed rate, and what each was
answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import numpy as np
import orjson

TIMEOUT = aiohttp.ClientTimeout(total=30)
NO_ANSWER = 0  # in place of a status


@dataclass(frozen=True)
class Call:
    """A request: where to, and its JSON."""

    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back. `start` is when it was due: what a late client waited counts."""

    call: int  # place in the calls
    start: float  # seconds of the monotonic clock
    seconds: float
    status: int
    answer: dict[str, Any]
    retry_after: str | None

    @property
    def whole(self) -> bool:
        """An answer of both heads, and on disk where it has a user."""
        return self.status == 200 and not self.answer["degraded"]


def session() -> aiohttp.ClientSession:
    """A client with as many connections as it needs."""
    return aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0))


async def ask(
    http: aiohttp.ClientSession, url: str, call: Call, number: int = 0, due: float | None = None
) -> Reply:
    """Ask once, without a retry."""
    start = time.perf_counter() if due is None else due
    try:
        async with http.post(url + call.path, json=call.body) as response:
            content, status, after = (
                await response.read(),
                response.status,
                response.headers.get("retry-after"),
            )
    except (aiohttp.ClientError, TimeoutError) as error:
        return Reply(
            number, start, time.perf_counter() - start, NO_ANSWER, {"error": repr(error)}, None
        )
    return Reply(number, start, time.perf_counter() - start, status, orjson.loads(content), after)


class Load:
    """The calls one after the other, `rate` a second whether or not answers come, until the block
    ends."""

    def __init__(self, url: str, calls: Sequence[Call], rate: float) -> None:
        self.url, self.calls, self.rate, self.replies = url, calls, rate, list[Reply]()

    async def __aenter__(self) -> Self:
        self.http = await session().__aenter__()
        self.sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sending.cancel()
        await asyncio.gather(self.sending, return_exceptions=True)
        await asyncio.gather(*self.waiting)
        await self.http.__aexit__(kind, error, trace)

    async def _send(self) -> None:
        self.waiting: set[asyncio.Task[None]] = set()
        start, sent = time.perf_counter(), 0
        while True:
            due = start + sent / self.rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            task = asyncio.create_task(self._send_call(sent % len(self.calls), due))
            self.waiting.add(task)
            task.add_done_callback(self.waiting.discard)
            sent += 1

    async def _send_call(self, number: int, due: float) -> None:
        self.replies.append(await ask(self.http, self.url, self.calls[number], number, due))


async def capacity(url: str, calls: Sequence[Call], seconds: float, lanes: int = 8) -> float:
    """Answers a second that `lanes` get which ask again as soon as they are answered."""
    done = 0
    async with session() as http:
        end = time.perf_counter() + seconds

        async def lane(number: int) -> None:
            nonlocal done
            while time.perf_counter() < end:
                reply = await ask(http, url, calls[number % len(calls)])
                done += reply.status == 200
                number += lanes

        await asyncio.gather(*map(lane, range(lanes)))
    return done / seconds


def mixed_calls(users: np.ndarray, items: np.ndarray, count: int, k: int = 20) -> list[Call]:
    """`count` calls, a third each: some triggers, a user, items similar to one; of these arrays of
    ids; seeded."""
    rng = np.random.default_rng(0)
    calls = []
    for number in range(count):
        body: dict[str, Any] = {"k": k}
        if number % 3 == 0:
            body["triggers"] = rng.choice(items, 1 + number % 5, replace=False).tolist()
        elif number % 3 == 1:
            body["user_id"] = str(rng.choice(users))
        else:
            body |= {"item_id": str(rng.choice(items)), "user_id": str(rng.choice(users))}
        calls.append(Call("/v1/similar" if number % 3 == 2 else "/v1/retrieve", body))
    return calls
