"""More requests than Triton can answer: its queue ends, and what is over is refused at once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from helpers.live_router import Router, RouterFolder, Run, remove, rewrite

from serving.triton.config_pbtxt import MAX_QUEUE
from serving.triton.store import install, promote

ASKED = {"triggers": ["i00", "i11", "i25"], "k": 12}
ALPHAS = {"engagement": 100, "relevance": 0}  # each alone
REQUESTS = MAX_QUEUE + 100  # one runs, MAX_QUEUE wait


@pytest.fixture
def held_version(place: RouterFolder) -> Iterator[tuple[str, Path]]:
    """Version 60, whose heads do nothing for as long as the file given with it exists."""
    flag = place.root / "held"
    install(place.package("60"), place.store)
    for head in ("engagement", "relevance"):
        held = f"import pathlib, time\n        while pathlib.Path({str(flag / head)!r}).exists():"
        held += "\n            time.sleep(0.02)\n        read: list"
        rewrite(
            place.store,
            "60",
            f"{head}_60",
            lambda code, held=held: code.replace("read: list", held, 1),
        )
    flag.mkdir()
    yield "60", flag
    for path in flag.iterdir():
        path.unlink()
    promote(place.store, "1")
    remove(place.store, "60")


def items(answer: dict) -> list[str]:
    return [candidate["item_id"] for candidate in answer["candidates"]]


def failed(router: Router, head: str, reason: str) -> float:
    return router.metric("mtmh_head_calls_failed_total", head=head, reason=reason)


def ask_all(router: Router, held: list[Path]) -> list[httpx.Response]:
    """REQUESTS at once; the models go on as soon as some were refused."""

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        base = f"http://127.0.0.1:{router.port}"
        async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
            posts = [
                asyncio.create_task(client.post("/v1/retrieve", json=ASKED))
                for _ in range(REQUESTS)
            ]
            while not failed(router, "relevance", "busy"):
                await asyncio.sleep(0.02)
            for path in held:
                path.unlink()
            return await asyncio.gather(*posts)

    return asyncio.run(ask())


@pytest.mark.parametrize("heads", [["relevance"], ["engagement", "relevance"]])
def test_what_the_queue_has_no_room_for_is_refused_and_the_rest_answered_whole(
    run_router: Run, place: RouterFolder, held_version: tuple[str, Path], heads: list[str]
) -> None:
    number, flag = held_version
    promote(place.store, number)
    limits = [f"limits.in_flight={2 * REQUESTS}", "limits.deadline_ms=20000"]
    with run_router(*limits) as router:
        whole = items(router.retrieve(**ASKED))
        one_head = {
            head: items(router.retrieve(**ASKED, alpha=alpha)) for head, alpha in ALPHAS.items()
        }
        for head in heads:
            (flag / head).touch()
        responses = ask_all(router, [flag / head for head in heads])
        statuses = Counter(response.status_code for response in responses)
        assert statuses[200] + statuses[503] == REQUESTS
        for response in responses:
            if response.status_code == 503:  # neither head had room
                assert int(response.headers["retry-after"]) >= 1
                assert response.json()["error"].count("busy") == 2
                continue
            answer = response.json()
            if answer["missing"]:
                (left,) = {*ALPHAS} - {*answer["missing"]}
                assert answer["degraded"]
                assert items(answer) == one_head[left]
            else:
                assert items(answer) == whole
        refused = {head: failed(router, head, "busy") for head in heads}
        assert all(0 < count < REQUESTS for count in refused.values())
        assert not any(failed(router, head, "gone") for head in heads)
        assert not router.retrieve(**ASKED)["degraded"]
