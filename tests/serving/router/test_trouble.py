"""Heads slow or gone, Triton killed, versions swapped, broken and rolled back, arms and
configuration changed.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from helpers.live_router import RouterFolder, Run, Traffic, eventually, remove, rewrite
from tritonclient.grpc import InferenceServerClient

from mtmh.config import RetrievalSettings
from mtmh.experiment.arms import Arm, assign
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Retriever
from serving.triton.management import headers
from serving.triton.store import champion_named_us, install, promote

ASKED = {"triggers": ["i00", "i11", "i25"], "k": 12}


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


def told(retriever: Retriever, alpha: float) -> list[str]:
    return [
        o.item_id
        for o in query.recommend(retriever, ASKED["triggers"], 12, alpha, RetrievalSettings())
    ]  # type: ignore[arg-type]


def items(answer: dict) -> list[str]:
    return [one["item_id"] for one in answer["candidates"]]


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
        assert items(answer) == told(offline["1"], alpha)  # filled up to k by the one that is left
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
        before, starts = items(router.retrieve(**ASKED)), place.triton.starts
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
        assert items(router.retrieve(**ASKED)) == before
        eventually(
            lambda: router.client.get("/readyz").status_code == 200, "the router is ready again"
        )


def test_versions_are_swapped_under_load_without_a_failed_or_mixed_answer(
    run_router: Run,
    place: RouterFolder,
    server: InferenceServerClient,
    offline: dict[str, Retriever],
) -> None:
    right = {number: told(retriever, 50) for number, retriever in offline.items()}
    assert right["1"] != right["2"]
    with run_router() as router, Traffic(router.port, ASKED) as traffic:
        for number in ("2", "1", "2"):
            promote(place.store, number)
            eventually(
                lambda n=number: router.retrieve(**ASKED)["model_version"] == n,
                f"version {number} serves",
            )
            time.sleep(0.2)
        eventually(
            lambda: not server.is_model_ready("retrieve_relevance_1"), "the old version is unloaded"
        )
        count = len(traffic.answers)
        eventually(lambda: len(traffic.answers) > count + 5, "traffic goes on")
        assert router.metric("mtmh_version_swaps_total") == 4
    assert {response.status_code for response in traffic.answers} == {200}
    seen = set()
    for response in traffic.answers:
        answer = response.json()
        seen.add(answer["model_version"])
        assert not answer["degraded"]
        assert items(answer) == right[answer["model_version"]]
    assert seen == {"1", "2"}


def damaged_file(place: RouterFolder, number: str) -> None:
    index = place.store / "models" / f"relevance_{number}" / number / "index.faiss"
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 0xFF
    index.unlink()
    index.write_bytes(content)


def failing_model(place: RouterFolder, number: str) -> None:
    rewrite(
        place.store,
        number,
        f"relevance_{number}",
        lambda code: f"raise RuntimeError('it does not load')\n{code}",
    )


def wrong_answers(place: RouterFolder, number: str) -> None:
    def change(code: str) -> str:
        return code.replace(
            'out["item"][:n], out["score"][:n] = item',
            'out["item"][:n], out["score"][:n] = item + 9999',
        )

    rewrite(place.store, number, f"engagement_{number}", change)


@pytest.mark.parametrize(
    ("number", "harm", "why"),
    [
        ("31", damaged_file, "checksum"),
        ("32", failing_model, "does not load"),
        ("33", wrong_answers, "warm-up"),
    ],
)
def test_a_version_that_fails_never_takes_traffic(
    run_router: Run,
    place: RouterFolder,
    server: InferenceServerClient,
    number: str,
    harm: Callable[[RouterFolder, str], None],
    why: str,
) -> None:
    with run_router() as router:
        install(place.package(number), place.store)
        harm(place, number)
        with Traffic(router.port, ASKED) as traffic:
            (place.store / "champion").write_text(f"{number}\n")  # promote would have seen it
            eventually(
                lambda: router.metric("mtmh_versions_refused_total") == 1, "the version is refused"
            )
            time.sleep(1)
        assert {(r.status_code, r.json()["model_version"]) for r in traffic.answers} == {(200, "1")}
        assert router.metric("mtmh_versions_refused_total") == 1  # it is not tried again
        ready = router.client.get("/readyz")
        assert (ready.status_code, ready.json()["model_version"]) == (200, "1")
        assert why in ready.json()["refused"][number]
        eventually(
            lambda: not server.is_model_ready(f"engagement_{number}"),
            "what was loaded of it is not kept",
        )
        promote(place.store, "1")
        remove(place.store, number)


def test_a_refused_version_is_tried_again_when_it_changed(
    run_router: Run, place: RouterFolder
) -> None:
    install(place.package("34"), place.store)
    index = place.store / "models" / "relevance_34" / "34" / "index.faiss"
    sound = index.read_bytes()
    damaged_file(place, "34")
    with run_router() as router:
        (place.store / "champion").write_text("34\n")
        eventually(
            lambda: router.metric("mtmh_versions_refused_total") == 1, "the version is refused"
        )
        index.write_bytes(sound)
        eventually(lambda: router.retrieve(**ASKED)["model_version"] == "34", "mended, it serves")
        assert "34" not in router.client.get("/readyz").json()["refused"]


def test_a_refused_version_is_tried_again_when_it_is_named_again(
    run_router: Run, place: RouterFolder
) -> None:
    """And /readyz says with which naming of the champion it was refused."""
    install(place.package("35"), place.store)
    damaged_file(place, "35")
    namings = []
    with run_router() as router:
        for count in (1, 2):
            (place.store / "champion").write_text("35\n")
            eventually(
                lambda c=count: router.metric("mtmh_versions_refused_total") == c, "it is refused"
            )
            ready = router.client.get("/readyz").json()
            assert "checksum" in ready["refused"]["35"]
            assert ready["champion_named_us"] == champion_named_us(place.store)
            namings.append(ready["champion_named_us"])
        promote(place.store, "1")
        remove(place.store, "35")
    assert namings[0] < namings[1]


def test_where_somebody_else_loads_the_models_the_router_waits(
    run_router: Run, place: RouterFolder, server: InferenceServerClient
) -> None:
    install(place.package("6"), place.store)
    promote(place.store, "6")
    unload_all(server, place.triton.secret)
    with run_router("triton.manages_models=false", wait=False) as router:
        eventually(
            lambda: "engagement_6" in router.client.get("/readyz").json()["waiting"].get("6", ""),
            "it waits",
        )
        assert router.client.get("/readyz").json()["refused"] == {}  # to wait is no refusal
        response = router.client.post("/v1/retrieve", json=ASKED)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        load(server, place, "6")
        eventually(lambda: router.client.get("/readyz").status_code == 200, "it is ready")
        assert router.retrieve(**ASKED)["model_version"] == "6"
        assert router.client.get("/readyz").json()["waiting"] == {}
        promote(place.store, "1")
    assert server.is_model_ready("retrieve_relevance_6")  # it unloads nothing either


def test_a_router_that_starts_serves_what_is_loaded_in_place_of_a_champion_that_is_not(
    run_router: Run, place: RouterFolder, server: InferenceServerClient
) -> None:
    install(place.package("7"), place.store)
    promote(place.store, "7")
    unload_all(server, place.triton.secret)
    load(server, place, "1")
    load(server, place, "2")
    with run_router("triton.manages_models=false") as router:
        health = router.client.get("/readyz").json()
        assert (health["model_version"], health["instead_of"]) == ("2", "7")  # the newest of both
        assert list(health["waiting"]) == ["7"]
        assert router.retrieve(**ASKED)["model_version"] == "2"
        assert router.metric("mtmh_champion_missing") == 1
        load(server, place, "7")
        eventually(
            lambda: router.client.get("/readyz").json()["model_version"] == "7", "it takes over"
        )
        assert router.client.get("/readyz").json()["instead_of"] == ""
        assert router.metric("mtmh_champion_missing") == 0
        promote(place.store, "1")


def load(server: InferenceServerClient, place: RouterFolder, version: str) -> None:
    models = sorted(path.name for path in (place.store / "models").glob(f"*_{version}"))
    for model in models:  # the ensembles, retrieve_*, come last
        server.load_model(model, headers=headers(place.triton.secret))


def unload_all(server: InferenceServerClient, secret: str) -> None:
    index = server.get_model_repository_index(headers=headers(secret)).models
    for name in sorted((model.name for model in index if model.state == "READY"), reverse=True):
        server.unload_model(name, headers=headers(secret))

    def loaded() -> list[str]:
        models = server.get_model_repository_index(headers=headers(secret)).models
        return [model.name for model in models if model.state == "READY"]

    eventually(lambda: not loaded(), "nothing is loaded")


def test_arms_come_with_a_configuration_without_a_restart(
    run_router: Run, place: RouterFolder, offline: dict[str, Retriever], tmp_path: Path
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("")

    def configure(arms: list[dict]) -> None:
        config.write_text(yaml.safe_dump({"experiment": {"salt": "s1", "arms": arms}}))

    with run_router(config=config) as router:
        assert router.retrieve(**ASKED, user_id="u03")["arm"] == "none"
        arms = [
            {"name": "control"},
            {"name": "relevant", "alpha": 0},
            {"name": "other", "version": "2", "k_ann": 7},
        ]
        configure(arms)
        expected = [Arm(**arm) for arm in arms]
        eventually(
            lambda: router.retrieve(**ASKED, user_id="u03")["arm"] != "none", "the arms are in use"
        )
        seen = {}
        for user in (f"user {n}" for n in range(60)):
            answer = router.retrieve(**ASKED, user_id=user)
            assert answer["arm"] == assign(user, "s1", expected).name
            seen[answer["arm"]] = answer
        assert set(seen) == {"control", "relevant", "other"}
        assert (seen["relevant"]["alpha"], seen["control"]["alpha"]) == (0, 50)
        assert [seen[name]["model_version"] for name in ("control", "other")] == ["1", "2"]
        assert items(seen["control"]) == told(offline["1"], 50)
        narrow = query.recommend(
            offline["2"], ASKED["triggers"], 12, 50, RetrievalSettings(k_ann=7)
        )  # type: ignore[arg-type]
        assert items(seen["other"]) == [one.item_id for one in narrow]
        assert router.retrieve(**ASKED, user_id="user 1", alpha=20)["alpha"] == 20
        assert router.retrieve(**ASKED)["arm"] == "none"  # of nobody in particular

        refused = router.metric("mtmh_config_reloads_total", outcome="refused")
        config.write_text("experiment: {arms: [{nmae: x}]}")
        eventually(
            lambda: router.metric("mtmh_config_reloads_total", outcome="refused") > refused,
            "it is refused",
        )
        assert (
            router.retrieve(**ASKED, user_id="user 1")["arm"]
            == assign("user 1", "s1", expected).name
        )
        configure([{"name": "nowhere", "version": "99"}])
        eventually(
            lambda: "99" in router.client.get("/readyz").json()["refused"],
            "a version that is not there",
        )
        assert router.retrieve(**ASKED, user_id="u03")["arm"] in seen  # the old arms go on
        configure([{"name": "all"}])
        eventually(lambda: router.retrieve(**ASKED, user_id="u03")["arm"] == "all", "new arms")


def test_limits_change_with_the_configuration(run_router: Run, tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("limits: {k: 100}")
    with run_router(config=config) as router:
        router.retrieve(**ASKED | {"k": 60})
        config.write_text(
            "limits: {k: 50}\nlisten: {port: 1}"
        )  # the port needs a restart and stays
        eventually(
            lambda: router.client.post("/v1/retrieve", json=ASKED | {"k": 60}).status_code == 422,
            "k 50",
        )
        router.retrieve(**ASKED)
