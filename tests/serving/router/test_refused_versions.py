"""Versions swapped under load, broken and refused, tried again, or loaded by somebody else."""

import time
from collections.abc import Callable

import pytest
from helpers.live_router import RouterFolder, Run, Traffic, eventually, remove, rewrite
from helpers.merged_items import ASKED, items_of, offline_items
from tritonclient.grpc import InferenceServerClient

from mtmh.retrieval.retriever import Retriever
from serving.triton.management import headers
from serving.triton.store import champion_named_us, install, promote


def test_versions_are_swapped_under_load_without_a_failed_or_mixed_answer(
    run_router: Run,
    place: RouterFolder,
    server: InferenceServerClient,
    offline: dict[str, Retriever],
) -> None:
    right = {number: offline_items(retriever, 50) for number, retriever in offline.items()}
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
        assert items_of(answer) == right[answer["model_version"]]
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
