"""Load on a router: requests by an asynchronous client at a fixed rate, what each was answered, and
whether that is the answer it should be: equal up to ties, of the version that it names."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import numpy as np
import orjson

TIMEOUT = aiohttp.ClientTimeout(total=30)  # seconds; the router's own deadline is one
NO_ANSWER = 0  # in place of a status
TOLERANCE = 1e-5  # of a score, relative: float32 sums in another order
Key = tuple[int, str, str]  # call, version, what is missing
# ids, each with its head where there are two, and float64 scores
Ranked = tuple[list[str], np.ndarray]


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
        """An answer of both heads."""
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
        self.http = session()
        self.sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.sending.cancel()
        await asyncio.gather(self.sending, return_exceptions=True)
        await asyncio.gather(*self.waiting)
        await self.http.close()

    def is_whole(self, reply: Reply) -> bool:
        """An answer of both heads, in the log where it names a user."""
        return reply.whole and (
            reply.answer["exposure_logged"] or "user_id" not in self.calls[reply.call].body
        )

    async def recovered(self, gone: float, seconds: float, patience: float) -> bool:
        """Wait for at most `patience` after the moment `gone` until the answers of the last
        `seconds` were whole, all of them."""
        while time.perf_counter() < gone + patience:
            await asyncio.sleep(0.25)
            since = max(time.perf_counter() - seconds, gone)
            late = [reply for reply in self.replies if reply.start + reply.seconds >= since]
            whole = bool(late) and all(map(self.is_whole, late))
            if whole and time.perf_counter() > gone + seconds:
                return True
        return False

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


def ranked(answer: Mapping[str, Any]) -> Ranked:
    """An answer's candidates in its order."""
    candidates = answer["candidates"]
    return [f"{c['head']} {c['item_id']}" for c in candidates], np.array(
        [c["score"] for c in candidates], np.float64
    )


def differing(answer: Ranked, right: Ranked, tolerance: float = TOLERANCE) -> int:
    """Positions at which `answer` is not `right`, ties aside.

    Another item at a place is a tie when both scores there are equal, and so is the score that
    `right` has for the item found; where it has none, the item tied with the last one that `right`
    holds. A list that is longer or shorter differs at each place too many or too few.
    """
    (items, scores), (right_items, right_scores) = answer, right
    score_of = dict(zip(right_items, right_scores.tolist(), strict=True))
    wrong = abs(len(items) - len(right_items))
    for position in range(min(len(items), len(right_items))):
        if not _equal(scores[position], right_scores[position], tolerance):
            wrong += 1
        elif items[position] != right_items[position]:
            wrong += not _equal(
                score_of.get(items[position], right_scores[-1]), scores[position], tolerance
            )
    return wrong


def is_foreign(call: int, answer: Mapping[str, Any], references: Mapping[Key, Ranked]) -> bool:
    """Whether an answer is not what the version that it names answers to that call without what is
    missing."""
    right = references.get((call, answer["model_version"], " ".join(answer["missing"])))
    return right is None or bool(differing(ranked(answer), right))


def undeclared(status: int, retry_after: str | None, declared: Iterable[int]) -> bool:
    """Whether a server error is none that the OpenAPI page declares, or does not say when to come
    back."""
    return status >= 500 and (status not in declared or not (retry_after or "").isdigit())


def _equal(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b))
