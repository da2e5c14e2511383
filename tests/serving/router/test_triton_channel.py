"""Triton's name comes late, Triton goes away and comes back: what the router does, and what its log
says.
"""

import logging
import os
import signal
from itertools import pairwise
from types import SimpleNamespace

import pytest
from helpers.live_router import RouterFolder, Run, eventually
from helpers.name_server import name_server

from serving.router import triton_channel
from serving.router.triton_channel import LONGEST_PAUSE, Outage


def test_a_name_that_resolves_late_is_found_at_once(
    run_router: Run, place: RouterFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel asks for it after 1, 2.6, 5, 9, 16, 26, 43, 71, 117, 190 s and so on; the router
    has new ones.
    """
    monkeypatch.setattr(triton_channel, "FRESH_SECONDS", 0.3, raising=False)
    with name_server() as names:
        url = f"dns://127.0.0.1:{names.port}/triton.test.:{place.ports.grpc}"
        with run_router(f"triton.url={url}", wait=False) as router:
            eventually(lambda: names.questions >= 12, "it asks again and again", seconds=60)
            assert router.client.get("/readyz").json()["status"] == "waiting for a version"
            names.resolves = True
            eventually(lambda: router.client.get("/readyz").status_code == 200, "it is ready")
            client = router.service.channel.client
            assert router.retrieve(triggers=["i00"], k=3)["candidates"]
            assert router.service.channel.client is client  # and stays with what it has found


def said(caplog: pytest.LogCaptureFixture, start: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage().startswith(start)]


def test_the_log_says_once_that_triton_is_away_and_once_that_it_is_back(
    run_router: Run, place: RouterFolder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mtmh.router")
    with run_router("triton.poll_seconds=0.05") as router:
        caplog.clear()
        starts = place.triton.starts
        os.kill(place.triton.pid, signal.SIGKILL)
        eventually(lambda: place.triton.starts > starts, "Triton is started again")
        eventually(lambda: said(caplog, "triton is ready again"), "Triton is back")
        eventually(lambda: router.client.get("/readyz").status_code == 200, "the router is too")
    assert len(said(caplog, "triton is not ready")) == 1
    assert len(said(caplog, "triton is ready again")) == 1


def test_warnings_of_a_long_outage_come_ever_more_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage, seconds, now = Outage(), [], 0.0
    monkeypatch.setattr(triton_channel, "time", SimpleNamespace(monotonic=lambda: now))
    with caplog.at_level(logging.INFO, "mtmh.router"):
        while now < 86_400:
            outage.note_silence("gone")
            if len(caplog.records) > len(seconds):
                seconds.append(now)
            now += 1
        outage.note_answer()
        outage.note_answer()
    pauses = [after - before for before, after in pairwise(seconds)]
    assert seconds[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert len(seconds) < 40
    assert len(said(caplog, "triton is ready again")) == 1
