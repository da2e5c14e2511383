"""More requests than Triton can answer: its queue ends, and what is over is refused at once."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from helpers.live_router import Router, RouterFolder, Run, remove, rewrite

from serving.triton.backend.files import sha256
from serving.triton.config_pbtxt import MAX_QUEUE
from serving.triton.store import install, promote

ASKED = {"triggers": ["i00", "i11", "i25"], "k": 12}
ALPHAS = {"engagement": 100, "relevance": 0}  # each alone
QUEUE, REQUESTS = 6, 30


def shorten_queues(package: Path) -> None:
    """Room for QUEUE requests in both heads' queues: fewer than the test asks."""
    manifest = json.loads((package / "manifest.json").read_text())
    for path in package.glob("models/*_60/config.pbtxt"):
        text = path.read_text()
        path.write_text(
            text.replace(f"max_queue_size: {MAX_QUEUE}\n", f"max_queue_size: {QUEUE}\n")
        )
        manifest["sha256"][str(path.relative_to(package))] = sha256(path)
    (package / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def held_version(place: RouterFolder) -> Iterator[tuple[str, Path]]:
    """Version 60, whose heads do nothing for as long as a file of their name is in the folder given
    with it.
    """
    flags = place.root / "held"
    flags.mkdir(exist_ok=True)
    package = place.package("60")
    shorten_queues(package)
    install(package, place.store)
    for head in ALPHAS:
        wait = f"import pathlib, time\n        while pathlib.Path({str(flags / head)!r}).exists():"
        wait += "\n            time.sleep(0.02)\n        read: list"
        rewrite(
            place.store,
            "60",
            f"{head}_60",
            lambda code, wait=wait: code.replace("read: list", wait, 1),
        )
    yield "60", flags
    shutil.rmtree(flags)
    shutil.rmtree(package)
    promote(place.store, "1")
    remove(place.store, "60")


def items(answer: dict) -> list[str]:
    return [candidate["item_id"] for candidate in answer["candidates"]]


def failed(router: Router, head: str, reason: str) -> float:
    return router.metric("mtmh_head_calls_failed_total", head=head, reason=reason)


def ask_all(router: Router, held: list[Path]) -> list[httpx.Response]:
    """REQUESTS at once; the models that are `held` go on once each has refused some."""

    async def ask() -> list[httpx.Response]:
        base = f"http://127.0.0.1:{router.port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            posts = [
                asyncio.create_task(client.post("/v1/retrieve", json=ASKED))
                for _ in range(REQUESTS)
            ]
            while not all(failed(router, path.name, "busy") for path in held):
                assert not all(post.done() for post in posts)
                await asyncio.sleep(0.02)
            for path in held:
                path.unlink()
            return await asyncio.gather(*posts)

    return asyncio.run(ask())


@pytest.mark.parametrize("heads", [["relevance"], ["engagement", "relevance"]])
def test_what_the_queue_has_no_room_for_is_refused_and_the_rest_answered_whole(
    run_router: Run, place: RouterFolder, held_version: tuple[str, Path], heads: list[str]
) -> None:
    number, flags = held_version
    promote(place.store, number)
    with run_router("limits.deadline_ms=20000") as router:
        whole = items(router.retrieve(**ASKED))
        one_head = {
            head: items(router.retrieve(**ASKED, alpha=alpha)) for head, alpha in ALPHAS.items()
        }
        for head in heads:
            (flags / head).touch()
        responses = ask_all(router, [flags / head for head in heads])
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
