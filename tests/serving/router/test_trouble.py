"""Heads slow or gone, and Triton killed: what is left answers, and all heals by itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.live_router import RouterFolder, Run, eventually, remove, rewrite
from helpers.merged_items import ASKED, items_of, offline_items
from tritonclient.grpc import InferenceServerClient

from mtmh.retrieval.retriever import Retriever
from serving.triton.management import headers
from serving.triton.store import install, promote


@pytest.fixture
def slow_version(place: RouterFolder) -> Iterator[tuple[str, Path]]:
    """Version 50, whose relevance head takes three seconds while the file given with it exists."""
    flag = place.root / "slow"
    install(place.package("50"), place.store)
    sleep = (
        f"import time, pathlib\n        time.sleep(3 * "
        f"pathlib.Path({str(flag)!r}).exists())\n        read: list"
    )
    rewrite(place.store, "50", "relevance_50", lambda code: code.replace("read: list", sleep, 1))
    yield "50", flag
    flag.unlink(missing_ok=True)
    promote(place.store, "1")
    remove(place.store, "50")


@pytest.mark.parametrize(
    ("gone", "left", "alpha"), [("relevance", "engagement", 100), ("engagement", "relevance", 0)]
)
def test_a_head_that_is_gone_leaves_the_others_answer(
    run_router: Run,
    place: RouterFolder,
    server: InferenceServerClient,
    offline: dict[str, Retriever],
    gone: str,
    left: str,
    alpha: int,
) -> None:
    with run_router("triton.poll_seconds=1.5") as router:
        server.unload_model(f"retrieve_{gone}_1", headers=headers(place.triton.secret))
        answer = router.retrieve(**ASKED, alpha=50)
        assert answer["degraded"]
        assert answer["missing"] == [gone]
        assert items_of(answer) == offline_items(
            offline["1"], alpha
        )  # filled up to k by the one that is left
        assert {one["head"] for one in answer["candidates"]} == {left}
        assert router.metric("mtmh_degraded_answers_total", part=gone) == 1
        assert router.metric("mtmh_head_calls_failed_total", head=gone, reason="gone") == 1
        assert router.metric("mtmh_offers_total", head=left) == 12
        assert router.metric("mtmh_quota_offers_total", head=gone) == 6  # alpha is not kept
        eventually(lambda: not router.retrieve(**ASKED)["degraded"], "the head is loaded again")


def test_without_heads_a_503_says_when_to_retry(
    run_router: Run, place: RouterFolder, server: InferenceServerClient
) -> None:
    with run_router("triton.poll_seconds=1.5") as router:
        for head in ("engagement", "relevance"):
            server.unload_model(f"retrieve_{head}_1", headers=headers(place.triton.secret))
        response = router.client.post("/v1/retrieve", json=ASKED)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert "no head answered" in response.json()["error"]
        eventually(
            lambda: router.client.post("/v1/retrieve", json=ASKED).status_code == 200,
            "the heads are back",
        )
        assert not router.retrieve(**ASKED)["degraded"]


def test_a_slow_head_does_not_hold_up_the_answer(
    run_router: Run, place: RouterFolder, slow_version: tuple[str, Path]
) -> None:
    number, flag = slow_version
    promote(place.store, number)
    with run_router("limits.deadline_ms=800") as router:
        assert not router.retrieve(**ASKED)["degraded"]
        flag.touch()
        answer = router.retrieve(**ASKED)
        assert (answer["missing"], len(answer["candidates"])) == (["relevance"], 12)
        assert answer["timings_ms"]["relevance"] < 800  # what was left of the deadline
        assert router.metric("mtmh_head_calls_failed_total", head="relevance", reason="slow") == 1
        flag.unlink()
        eventually(lambda: not router.retrieve(**ASKED)["degraded"], "the head keeps up again")


def test_a_killed_triton_is_survived_without_a_restart(
    run_router: Run, place: RouterFolder
) -> None:
    with run_router() as router:
        before, starts = items_of(router.retrieve(**ASKED)), place.triton.starts
        os.kill(place.triton.pid, signal.SIGKILL)
        statuses = set()

        def recovered() -> bool:
            response = router.client.post("/v1/retrieve", json=ASKED)
            statuses.add(response.status_code)
            return (
                place.triton.starts > starts
                and response.status_code == 200
                and not response.json()["degraded"]
            )

        eventually(recovered, "both heads answer again")
        assert statuses <= {200, 503}
        assert items_of(router.retrieve(**ASKED)) == before
        eventually(
            lambda: router.client.get("/readyz").status_code == 200, "the router is ready again"
        )
