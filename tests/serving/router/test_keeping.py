"""Histories that cannot be read, exposures and engagements that can or cannot be kept."""

import os
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.checkerboard import Stages
from helpers.live_router import Router, RouterFolder, Run, eventually
from helpers.processes import free_ports
from helpers.redis_server import redis_server

from feature_repo import store
from feature_repo.histories import build_histories
from mtmh.exposures.read import read

USER = {"user_id": "u03", "k": 5}


def unreadable(router: Router) -> None:
    """A user alone gets a 503, with triggers an answer that is marked, and who needs no history is
    not concerned.
    """
    start = time.monotonic()
    response = router.client.post("/v1/retrieve", json=USER)
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert "history" in response.json()["error"]
    answer = router.retrieve(**USER, triggers=["i00"])
    assert (answer["degraded"], answer["missing"], len(answer["candidates"])) == (
        True,
        ["history"],
        5,
    )
    assert not router.retrieve(triggers=["i00"])["degraded"]
    assert not router.retrieve(**USER, triggers=["i00"], filters={"exclude_seen": False})[
        "degraded"
    ]
    assert time.monotonic() - start < 20  # four answers, though nobody reads


def readable(router: Router) -> bool:
    return router.client.post("/v1/retrieve", json=USER).status_code == 200


def test_a_broken_store_costs_users_alone_and_is_opened_again(
    run_router: Run, place: RouterFolder, tmp_path: Path
) -> None:
    features = tmp_path / "features"
    shutil.copytree(place.features, features)
    (features / "online.db").write_bytes(b"this is no database" * 100)
    with run_router(f"features.directory={features}") as router:
        unreadable(router)
        shutil.copy(place.features / "online.db", features / "online.db")
        eventually(lambda: readable(router), "histories are read again")
        assert router.retrieve(**USER)["candidates"]


def test_a_redis_that_hangs_or_dies_is_waited_for_within_the_budget(
    run_router: Run, world: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports(1)[0]
    monkeypatch.setenv(
        "FEAST_FS_YAML_FILE_PATH", str(store.EMBEDDED.with_name("feature_store.cluster.yaml"))
    )
    monkeypatch.setenv("REDIS_CONNECTION", f"127.0.0.1:{port}")
    features = tmp_path / "features"
    with redis_server(tmp_path, port) as server:
        build_histories(world.prepared, features, "mtmh_small_1")
        with run_router(f"features.directory={features}", "features.timeout_ms=300") as router:
            eventually(lambda: readable(router), "histories are read")
            server.send_signal(signal.SIGSTOP)
            unreadable(router)
            server.send_signal(signal.SIGCONT)
            eventually(lambda: readable(router), "Redis goes on")
            assert router.retrieve(**USER)["candidates"]
            server.kill()
            server.wait()
            unreadable(router)
            with redis_server(tmp_path, port):
                eventually(lambda: readable(router), "another Redis, which knows nobody")
                assert router.retrieve(**USER)["candidates"] == []


def rows(table: object) -> list[dict]:
    found: pa.Table = table.to_pyarrow()  # type: ignore[attr-defined]
    return found.to_pylist()


def test_what_users_were_shown_and_did_is_on_disk(run_router: Run, tmp_path: Path) -> None:
    with run_router(f"log.directory={tmp_path / 'log'}") as router:
        answer = router.retrieve(**USER)
        near = router.post("/v1/similar", {"item_id": "i00", "user_id": "u04", "k": 3})
        assert answer["exposure_logged"]
        assert near["exposure_logged"]
        assert not router.retrieve(triggers=["i00"])[
            "exposure_logged"
        ]  # shown to nobody that is known
        did = {
            "user_id": "u03",
            "item_id": answer["candidates"][0]["item_id"],
            "request_id": answer["request_id"],
        }
        asked = {
            "engagements": [
                did | {"timestamp": "2026-01-02T03:04:05+01:00"},
                did | {"event": "like"},
            ]
        }
        assert router.post("/v1/engagements", asked)["logged"] == 2
        assert (
            router.metric("mtmh_engagements_total", logged="true"),
            router.metric("mtmh_log_kept"),
        ) == (2, 1)
        wrong = {"engagements": [did | {"timestamp": "2026-01-02T03:04:05"}]}
        assert "timestamp" in router.post("/v1/engagements", wrong, 422)["error"]
        log = read(tmp_path / "log", tmp_path / "out")  # while the router has it open
        shown = [row for row in rows(log.exposures) if row["request_id"] == answer["request_id"]]
        for position, (row, one) in enumerate(
            zip(shown, answer["candidates"], strict=True), start=1
        ):
            assert (row["user_id"], row["arm"], row["model_version"]) == ("u03", "none", "1")
            assert (row["alpha"], row["surface"], row["position"]) == (50, "retrieve", position)
            assert {name: row[name] for name in one} == one
        assert len(rows(log.exposures)) == 8
        engaged = rows(log.engagements)
        assert [row["event"] for row in engaged] == ["engagement", "like"]
        assert engaged[0]["timestamp"].isoformat() == "2026-01-02T02:04:05+00:00"
        assert not len(log.rejected)


def test_a_log_that_cannot_be_written_says_so_and_holds_up_no_answer(
    run_router: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    with run_router(f"log.directory={folder}") as router:
        assert router.retrieve(**USER)["exposure_logged"]
        shutil.rmtree(folder)  # while a segment in it is open
        answer = router.retrieve(**USER)
        assert len(answer["candidates"]) == 5
        assert not answer["exposure_logged"]
        assert router.metric("mtmh_exposures_total", logged="false") == 1
        asked = {"engagements": [{"user_id": "u03", "item_id": "i00"}]}
        router.post("/v1/engagements", asked, 503)
        assert router.metric("mtmh_engagements_total", logged="false") == 1
        folder.mkdir()
        assert router.retrieve(**USER)["exposure_logged"]
        assert router.post("/v1/engagements", asked)["logged"] == 1


def test_without_a_log_engagements_are_not_taken(router: Router) -> None:
    asked = {"engagements": [{"user_id": "u03", "item_id": "i00"}]}
    assert "log.directory" in router.post("/v1/engagements", asked, 503)["error"]


def test_a_version_without_a_store_knows_no_user(run_router: Run, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "nothing")
    with run_router(f"features.directory={tmp_path / 'nothing'}") as router:
        assert router.retrieve(**USER)["candidates"] == []
