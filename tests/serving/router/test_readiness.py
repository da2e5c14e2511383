"""Ready means answers: Triton hangs, the volume is away for a moment, a version is rolled back, its
folder is gone.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from helpers.live_router import Router, RouterFolder, Run, Traffic, eventually, remove, rewrite
from tritonclient.grpc import InferenceServerClient

from serving.router.history import Histories
from serving.router.settings import Features
from serving.triton.management import headers
from serving.triton.store import install, promote

ASKED = {"triggers": ["i00", "i11", "i25"], "k": 12}
USER = {"user_id": "u03", "k": 5}


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing any more, until the block ends."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # somebody may have replaced a process that hangs
            os.kill(pid, signal.SIGCONT)


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    """What is not there for a while."""
    aside = path.with_name(f".{path.name}-aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def status(router: Router) -> int:
    return router.client.get("/readyz").status_code


def test_a_triton_that_hangs_makes_the_router_not_ready_and_stops_no_configuration(
    run_router: Run, place: RouterFolder, tmp_path: Path
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(yaml.safe_dump({"experiment": {"salt": "s", "arms": [{"name": "bad"}]}}))
    with run_router("limits.deadline_ms=300", config=config) as router:
        assert router.metric("mtmh_ready") == 1
        with stopped(place.triton.pid):
            eventually(lambda: status(router) == 503, "it is not ready", seconds=30)
            assert router.metric("mtmh_ready") == 0
            assert "heads" in router.client.get("/readyz").json()["status"]
            config.write_text(
                yaml.safe_dump({"experiment": {"salt": "s", "arms": None}, "limits": {"k": 7}})
            )
            eventually(lambda: router.service.settings.limits.k == 7, "limits are read", seconds=30)
            # an arm that does harm is withdrawn
            eventually(
                lambda: router.service.versions.serving.experiment.arms is None,
                "the arm is gone",
                seconds=30,
            )
        eventually(lambda: status(router) == 200, "it is ready again")
        assert router.metric("mtmh_ready") == 1


def test_readiness_is_judged_by_answers_where_nobody_looks_at_triton(
    run_router: Run, place: RouterFolder, server: InferenceServerClient
) -> None:
    with run_router("triton.poll_seconds=600") as router:
        for head in ("engagement", "relevance"):
            server.unload_model(f"retrieve_{head}_1", headers=headers(place.triton.secret))
        eventually(lambda: status(router) == 503, "Triton is up, and nothing answers", seconds=30)
        for head in ("engagement", "relevance"):
            server.load_model(f"retrieve_{head}_1", headers=headers(place.triton.secret))
        eventually(lambda: status(router) == 200, "it answers again")


def silent(router: Router) -> dict:
    """What /readyz says of heads that do not answer; the router is ready all the same."""
    ready = router.client.get("/readyz")
    assert ready.status_code == 200  # answers are degraded, and answers
    return ready.json()["silent"]


def test_a_head_that_is_gone_is_named_and_one_that_comes_back_is_not(
    run_router: Run, place: RouterFolder, server: InferenceServerClient
) -> None:
    with run_router("triton.poll_seconds=600") as router:
        assert silent(router) == {}
        server.unload_model("retrieve_relevance_1", headers=headers(place.triton.secret))
        why = {"1": {"relevance": "no server, or no such model"}}
        eventually(lambda: silent(router) == why, "the head is named, though nobody asks it")
        assert router.metric("mtmh_channel_silent", head="relevance") == 1
        assert router.metric("mtmh_channel_silent", head="engagement") == 0
        server.load_model("retrieve_relevance_1", headers=headers(place.triton.secret))
        eventually(lambda: silent(router) == {}, "it answers again")
        assert router.metric("mtmh_channel_silent", head="relevance") == 0


def test_a_head_that_answers_errors_is_named_and_comes_back_by_itself(
    run_router: Run, place: RouterFolder, server: InferenceServerClient
) -> None:
    """Triton calls the model ready all the while."""
    flag = place.root / "broken"
    install(place.package("44"), place.store)
    raises = f"import os\n        if os.path.exists({str(flag)!r}):\n            raise RuntimeError"
    for model in ("relevance_44",):
        rewrite(
            place.store,
            "44",
            model,
            lambda code: code.replace(
                "read: list[list[TriggerQuery]] = []", f"{raises}\n        read: list = []"
            ),
        )
    promote(place.store, "44")
    with run_router() as router:
        eventually(lambda: router.retrieve(**ASKED)["model_version"] == "44", "it serves")
        flag.touch()
        why = {"44": {"relevance": "its model answers with an error"}}
        eventually(lambda: silent(router) == why, "the head is named, though nobody asks it")
        assert server.is_model_ready("retrieve_relevance_44")
        assert router.retrieve(**ASKED)["missing"] == ["relevance"]
        flag.unlink()
        eventually(lambda: silent(router) == {}, "it answers again")
        assert router.retrieve(**ASKED)["missing"] == []
        promote(place.store, "1")
        eventually(lambda: router.retrieve(**ASKED)["model_version"] == "1", "the old one serves")
    remove(place.store, "44")


@pytest.mark.parametrize("name", ["models", "versions", "champion"])
def test_a_volume_that_is_away_for_a_moment_takes_no_router_out_of_service(
    run_router: Run, place: RouterFolder, name: str
) -> None:
    with run_router() as router, Traffic(router.port, ASKED) as traffic:
        with moved_away(place.store / name):
            end = time.monotonic() + 8
            while time.monotonic() < end:
                ready = router.client.get("/readyz")
                assert (ready.status_code, router.metric("mtmh_ready")) == (200, 1), ready.text
                time.sleep(0.1)
        eventually(lambda: not router.client.get("/readyz").json()["refused"], "all is well again")
        assert router.metric("mtmh_version_swaps_total") == 1
    assert {(answer.status_code, answer.json()["degraded"]) for answer in traffic.answers} == {
        (200, False)
    }


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\0", b"../../..", b"/etc/passwd", b"9" * 2**20, b"1\n2\n", b"999"]
)
def test_a_spoiled_champion_is_told_in_a_few_words(
    run_router: Run, place: RouterFolder, content: bytes
) -> None:
    with run_router() as router:
        draft = place.store / ".draft"
        draft.write_bytes(content)
        draft.replace(place.store / "champion")
        eventually(
            lambda: "champion" in router.client.get("/readyz").json()["refused"], "it is seen"
        )
        ready = router.client.get("/readyz")
        assert (ready.status_code, ready.json()["model_version"]) == (200, "1")
        assert len(ready.content) < 300
        assert str(place.root) not in ready.text
        assert "/etc" not in ready.text
        promote(place.store, "1")
        eventually(lambda: not router.client.get("/readyz").json()["refused"], "mended")


def test_readyz_tells_no_paths_and_forgets_what_nobody_names(
    run_router: Run, place: RouterFolder, tmp_path: Path
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("")

    def arms(*named: dict) -> None:
        config.write_text(yaml.safe_dump({"experiment": {"salt": "s", "arms": list(named)}}))

    with run_router(config=config) as router:
        arms({"name": "nowhere", "version": "99"})
        eventually(lambda: "99" in router.client.get("/readyz").json()["refused"], "it is refused")
        assert "/" not in router.client.get("/readyz").json()["refused"]["99"]
        assert router.metric("mtmh_experiment_pending") == 1
        assert router.metric("mtmh_config_reloads_total", outcome="pending") == 1
        assert router.metric("mtmh_config_reloads_total", outcome="taken") == 0
        assert status(router) == 200
        arms({"name": "all"})
        eventually(
            lambda: not router.client.get("/readyz").json()["refused"], "nobody names it any more"
        )
        assert router.metric("mtmh_experiment_pending") == 0


def test_an_arms_version_may_be_installed_after_the_arm_is_configured(
    run_router: Run, place: RouterFolder, tmp_path: Path
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(
        yaml.safe_dump({"experiment": {"salt": "s", "arms": [{"name": "new", "version": "43"}]}})
    )
    with run_router(config=config) as router:
        assert router.retrieve(**ASKED, user_id="u03")["arm"] == "none"
        install(place.package("43"), place.store)
        eventually(
            lambda: router.retrieve(**ASKED, user_id="u03")["arm"] == "new", "the arm goes live"
        )
        assert router.retrieve(**ASKED, user_id="u03")["model_version"] == "43"
        assert router.metric("mtmh_experiment_pending") == 0
    remove(place.store, "43")


def test_a_rollback_within_the_drain_time_drops_nobody(
    run_router: Run, place: RouterFolder
) -> None:
    with run_router("triton.drain_seconds=30") as router, Traffic(router.port, USER) as traffic:
        for number in ("2", "1", "2", "1"):
            promote(place.store, number)
            eventually(
                lambda n=number: router.retrieve(**USER)["model_version"] == n,
                f"version {number} serves",
            )
            time.sleep(1)
    answers = [(answer.status_code, answer.text) for answer in traffic.answers]
    assert {code for code, _ in answers} == {200}, next(
        text for code, text in answers if code != 200
    )
    assert all(
        answer.json()["candidates"] and not answer.json()["missing"] for answer in traffic.answers
    )


def test_a_versions_folder_that_is_gone_makes_no_empty_answers(
    run_router: Run, place: RouterFolder
) -> None:
    with run_router() as router:
        assert router.retrieve(**USER)["candidates"]
        with moved_away(place.store / "versions" / "1"):
            for _ in range(20):
                response = router.client.post("/v1/retrieve", json=USER)
                assert response.status_code in (200, 503)
                if response.status_code == 200:
                    assert response.json()["candidates"]
                answer = router.retrieve(**USER, triggers=["i00"])
                assert answer["candidates"]
                time.sleep(0.1)
        eventually(
            lambda: router.client.post("/v1/retrieve", json=USER).status_code == 200,
            "histories are back",
        )


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_store_that_goes_missing_is_no_version_without_a_store(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "registry.db").write_bytes(b"")
    histories = Histories(Features())
    await histories.open(tmp_path)
    (tmp_path / "features" / "registry.db").unlink()
    await histories.open(tmp_path)
    assert await histories.read(tmp_path, "u03", 1.0) is None
    assert await histories.read(tmp_path / "never opened", "u03", 1.0) is None
    assert (
        list((tmp_path / "features").iterdir()) == []
    )  # and no empty store was begun in its place
    histories.threads.shutdown()


def test_a_pipe_in_the_files_place_holds_up_no_answer(run_router: Run, tmp_path: Path) -> None:
    """Whoever reads it would wait for its writer: files are looked at, and read, away from the
    answers.
    """
    config = tmp_path / "router.yaml"
    config.write_text("limits: {k: 100}\n")
    with run_router(config=config) as router:
        config.unlink()
        os.mkfifo(config)
        eventually(lambda: router.metric("mtmh_config_refused") == 1, "it is refused")
        router.retrieve(**ASKED)
        assert status(router) == 200


def test_an_empty_file_takes_no_token_away_and_ends_no_experiment(
    run_router: Run, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret")
    config = tmp_path / "router.yaml"
    content = {
        "auth": {"token_file": str(tmp_path / "token")},
        "experiment": {"salt": "s", "arms": [{"name": "all"}]},
    }
    config.write_text(yaml.safe_dump(content | {"listen": {"host": "0.0.0.0"}}))
    loopback = yaml.safe_dump({"listen": {"host": "127.0.0.1"}})
    with run_router(config=config, token="secret") as router:
        for count, text in enumerate(
            ("", loopback, loopback + "auth: {token_file: null}\n"), start=1
        ):
            config.write_text(text)
            eventually(
                lambda c=count: router.metric("mtmh_config_reloads_total", outcome="refused") == c,
                "it is refused",
            )
            stranger = router.client.post(
                "/v1/retrieve", json=ASKED, headers={"authorization": "Bearer wrong"}
            )
            assert stranger.status_code == 401
            assert router.retrieve(**ASKED, user_id="u03")["arm"] == "all"
