"""A version of three channels behind the router: what it answers is what the offline retriever
does, and what a request or an arm may say of quotas.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import yaml
from helpers.checkerboard import Stages, retrieval_settings, write_preranker
from helpers.live_router import Router, RouterFolder, Run, eventually, remove
from helpers.processes import free_ports
from tritonclient.grpc import InferenceServerClient

from components.writers import WRITERS
from mtmh.config import RetrievalSettings
from mtmh.experiment.arms import Arm, assign
from mtmh.exposures.read import read
from mtmh.ragged import Ragged
from mtmh.retrieval import query
from mtmh.retrieval.retriever import Request, Retriever, merge_pools
from serving.client import Client
from serving.router import schema
from serving.router.generated import mtmh_pb2 as wire
from serving.triton.export import write_package
from serving.triton.management import headers
from serving.triton.store import install, promote

ITEMS = [f"i{number:02d}" for number in range(44)]
QUOTAS = {"engagement": 40.0, "relevance": 45.0, "subject": 15.0}
ASKED = {"triggers": ["i00", "i11", "i25"], "k": 12}
NUMBER = "70"


@pytest.fixture(scope="module")
def three(
    world: Stages,
    trained: Callable[[str], Path],
    place: RouterFolder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Retriever]:
    """Version 70 in the store: three heads and a preranker; the same offline."""
    root = tmp_path_factory.mktemp("three")
    channels = [{"head": head, "quota": int(quota)} for head, quota in QUOTAS.items()]
    folders = replace(
        world, model=trained("three heads"), preranker=write_preranker(world, root / "preranker")
    )
    (root / "retriever").mkdir()
    settings = retrieval_settings(channels=channels, alpha=40)
    WRITERS["index"](folders, root / "retriever", settings, 0, root)
    package = write_package(root / "retriever", NUMBER, root / "package", place.features)
    install(package, place.store)
    yield Retriever.load(root / "retriever")
    remove(place.store, NUMBER)


@pytest.fixture
def router(run_router: Run, place: RouterFolder, three: Retriever) -> Iterator[Router]:
    """A router before version 70."""
    promote(place.store, NUMBER)
    with run_router() as running:
        yield running
        promote(place.store, "1")
        eventually(
            lambda: running.client.get("/readyz").json()["model_version"] == "1", "1 serves again"
        )


def rows(answer: dict) -> list[tuple[str, str, str]]:
    return [(one["item_id"], one["head"], one["trigger_id"]) for one in answer["candidates"]]


def offline(
    three: Retriever, triggers: list[str], k: int, quotas: dict[str, float]
) -> list[tuple[str, str, str]]:
    """What the offline retriever merges of its channels' pools."""
    history = Ragged.of([[ITEMS.index(item) for item in triggers]])
    request = replace(Request.of(history, history.sorted(), RetrievalSettings()), size=500)
    merged = merge_pools(
        list(three.pools(request).values()), [quotas.get(name, 0.0) for name in three.names], k
    )
    found = zip(merged.item[0], merged.channel[0], merged.trigger[0], strict=True)
    return [
        (ITEMS[item], three.names[channel], ITEMS[trigger])
        for item, channel, trigger in found
        if item >= 0
    ]


@pytest.mark.parametrize(
    "quotas",
    [
        None,
        {"engagement": 10.0, "relevance": 12.5, "subject": 77.5},
        {"subject": 100.0},
        {"relevance": 30.0, "engagement": 70.0},
    ],
)
def test_every_answer_is_the_offline_merge_of_all_channels(
    router: Router, three: Retriever, quotas: dict[str, float] | None
) -> None:
    """For every item and some histories: of all candidates, none differs."""
    k, asked = 20, {} if quotas is None else {"quotas": quotas}
    histories = [[item] for item in ITEMS] + [ITEMS[start : start + 8] for start in range(0, 36, 4)]
    differing, channels = 0, set()
    for triggers in histories:
        answer = router.retrieve(triggers=triggers, k=k, **asked)
        expected = offline(three, triggers, k, quotas or QUOTAS)
        assert len(rows(answer)) == len(expected)
        differing += sum(a != b for a, b in zip(rows(answer), expected, strict=True))
        channels |= {head for _, head, _ in expected}
        assert answer["alpha"] is None
        assert answer["quotas"] == {name: (quotas or QUOTAS).get(name, 0.0) for name in QUOTAS}
        schema.Answer.model_validate(answer, strict=True)
    assert differing == 0
    # A channel without a quota comes behind the others: here they fill 20 without it.
    assert channels == {name for name, quota in (quotas or QUOTAS).items() if quota}


def test_similar_items_and_lists_are_the_offline_ones(router: Router, three: Retriever) -> None:
    for item in ITEMS[::5]:
        answer = router.post("/v1/similar", {"item_id": item, "k": 9})
        expected = query.similar(three, item, 9, QUOTAS["engagement"])["merged"]
        assert rows(answer) == [(one.item_id, one.head, one.trigger_id) for one in expected]
    told = router.post("/v1/compare", {"triggers": ["i03"], "k": 8})
    schema.Comparison.model_validate(told, strict=True)
    assert (told["heads"], told["quotas"]) == ([*QUOTAS], QUOTAS)
    assert list(told["lists"]) == [*QUOTAS, "merged"]
    for name in QUOTAS:
        alone = offline(three, ["i03"], 8, {name: 100.0})
        assert [row["item_id"] for row in told["lists"][name]] == [item for item, _, _ in alone]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"quotas": {"engagement": 50, "relevance": 30}},
            "quotas: they are 80 in all. Quotas are percent of a list: write some that are 100 in"
            " all.",
        ),
        (
            {"quotas": {"engagement": 50, "novelty": 50}},
            "quotas: this version has no channel 'novelty'; it has engagement, relevance, subject.",
        ),
        (
            {"alpha": 30},
            "alpha: this version has the channels engagement, relevance, subject, and alpha says"
            " what two of them give, engagement and another. Give quotas, such as"
            " {'engagement': 40.0, 'relevance': 45.0, 'subject': 15.0}.",
        ),
        ({"alpha": 30, "quotas": QUOTAS}, "alpha and quotas say the same: give one of them."),
        ({"quotas": {"engagement": 101, "relevance": -1}}, "less than or equal to 100"),
    ],
)
def test_wrong_quotas_are_one_clear_message(router: Router, asked: dict, said: str) -> None:
    assert said in router.retrieve(422, triggers=["i00"], **asked)["error"]
    assert said in router.post("/v1/similar", {"item_id": "i00", **asked}, 422)["error"]
    (answer,) = router.post("/v1/retrieve/batch", {"requests": [{"triggers": ["i00"], "k": 3}]})[
        "answers"
    ]
    assert len(answer["candidates"]) == 3


def test_two_channels_take_quotas_by_name_and_answer_as_they_did(router: Router) -> None:
    promote(router.service.settings.store, "1")
    eventually(lambda: router.retrieve(**ASKED)["model_version"] == "1", "version 1 serves")
    by_alpha = router.retrieve(**ASKED, alpha=30)
    by_name = router.retrieve(**ASKED, quotas={"relevance": 70, "engagement": 30})
    assert rows(by_alpha) == rows(by_name)
    assert by_alpha["alpha"] == by_name["alpha"] == 30
    # Callers from before channels were named know these keys alone.
    assert set(by_alpha) == {
        *("request_id", "exposure_id", "model_version", "arm", "alpha", "degraded", "missing"),
        *("candidates", "timings_ms", "exposure_logged"),
    }
    assert set(by_alpha["timings_ms"]) == {
        *("history", "engagement", "relevance", "merge", "total"),
    }
    said = router.retrieve(422, **ASKED, quotas={"subject": 100})["error"]
    assert said == "quotas: this version has no channel 'subject'; it has engagement, relevance."


def test_a_channel_that_is_gone_leaves_the_others_answer(
    router: Router, three: Retriever, place: RouterFolder
) -> None:
    with InferenceServerClient(f"127.0.0.1:{place.ports.grpc}") as server:
        router.service.versions.models.settings = (  # or it is loaded again at the next look
            router.service.settings.triton.model_copy(update={"manages_models": False})
        )
        server.unload_model(f"retrieve_subject_{NUMBER}", headers=headers(place.triton.secret))
        answer = router.retrieve(**ASKED)
        assert (answer["degraded"], answer["missing"]) == (True, ["subject"])
        assert {one["head"] for one in answer["candidates"]} == {"engagement", "relevance"}
        assert router.metric("mtmh_degraded_answers_total", part="subject") == 1
        assert router.metric("mtmh_head_calls_failed_total", head="subject", reason="gone") >= 1
        eventually(
            lambda: (
                router.client.get("/readyz").json()["silent"].get(NUMBER, {}).keys() == {"subject"}
            ),
            "/readyz names the channel",
        )
        assert router.metric("mtmh_channel_silent", head="subject") == 1
        assert router.metric("mtmh_channel_silent", head="relevance") == 0
        server.load_model(f"retrieve_subject_{NUMBER}", headers=headers(place.triton.secret))
        router.service.versions.models.settings = router.service.settings.triton
    eventually(lambda: not router.retrieve(**ASKED)["missing"], "the channel is back")


def test_figures_are_those_of_each_channel(router: Router) -> None:
    answer = router.retrieve(triggers=["i00"], k=20)
    for name, quota in QUOTAS.items():
        own = [one for one in answer["candidates"] if one["head"] == name]
        assert router.metric("mtmh_merged_candidates_total", head=name) == len(own)
        offers = router.metric("mtmh_offers_total", head=name)
        total = sum(router.metric("mtmh_offers_total", head=other) for other in QUOTAS)
        of_quota = router.metric("mtmh_quota_offers_total", head=name)
        assert of_quota == pytest.approx(total * quota / 100)
        assert offers == pytest.approx(of_quota, abs=1)
        assert router.metric("mtmh_stage_seconds_count", stage=name) == 1


def test_a_version_of_any_channels_is_unloaded_when_it_is_replaced(
    router: Router, place: RouterFolder
) -> None:
    promote(place.store, "1")
    with InferenceServerClient(f"127.0.0.1:{place.ports.grpc}") as server:
        names = [f"{prefix}{name}_{NUMBER}" for prefix in ("", "retrieve_") for name in QUOTAS]
        names.append(f"preranker_{NUMBER}")
        eventually(
            lambda: not any(server.is_model_ready(name) for name in names),
            "no model of the version is left",
        )


def test_arms_have_quotas_by_name_and_the_log_has_them_too(
    run_router: Run, place: RouterFolder, three: Retriever, tmp_path: Path
) -> None:
    promote(place.store, NUMBER)
    other = {"engagement": 20.0, "subject": 80.0}
    arms = [{"name": "now", "weight": 1}, {"name": "subjects", "weight": 1, "quotas": other}]
    config = tmp_path / "router.yaml"
    config.write_text(yaml.safe_dump({"experiment": {"salt": "s", "arms": arms}}))
    users = [f"user {number}" for number in range(12)]
    parsed = [Arm(**arm) for arm in arms]
    with run_router(f"log.directory={tmp_path / 'log'}", config=config) as router:
        for user in users:
            answer = router.retrieve(**ASKED, user_id=user)
            arm = assign(user, "s", parsed)
            expected = arm.quotas or QUOTAS
            assert answer["arm"] == arm.name
            assert rows(answer) == offline(three, ASKED["triggers"], ASKED["k"], expected)
        own = router.retrieve(**ASKED, user_id="user 0", quotas={"relevance": 100})
        assert own["quotas"] == {"engagement": 0.0, "relevance": 100.0, "subject": 0.0}
        # Arms that this version cannot give wait, and those that run go on.
        config.write_text(
            yaml.safe_dump({"experiment": {"salt": "s", "arms": [{"name": "a", "alpha": 30}]}})
        )
        eventually(
            lambda: "experiment" in router.client.get("/readyz").json()["waiting"],
            "the experiment waits",
        )
        waits = router.client.get("/readyz").json()["waiting"]["experiment"]
        assert waits.startswith(
            f"arm 'a', version {NUMBER}: alpha: this version has the channels eng"
        )
        assert router.metric("mtmh_experiment_pending") == 1
        assert router.retrieve(**ASKED, user_id="user 0")["arm"] in ("now", "subjects")
        promote(place.store, "1")
        config.write_text("experiment: {arms: null}\n")
        eventually(lambda: router.retrieve(**ASKED)["model_version"] == "1", "1 serves again")
    log = read(tmp_path / "log", tmp_path / "none").exposures.to_pyarrow().to_pylist()
    texts = {
        "now": "engagement 40, relevance 45, subject 15",
        "subjects": "engagement 20, subject 80",
    }
    for row in log:
        if row["model_version"] != NUMBER:
            continue
        assert row["arm_quotas"] == texts[row["arm"]]
        assert row["quotas"] == ("relevance 100" if row["own_alpha"] else texts[row["arm"]])
        assert (row["alpha"], row["arm_alpha"]) == (None, None)
    assert {row["head"] for row in log} == set(QUOTAS)
    assert any(row["own_alpha"] for row in log)


def test_clients_of_both_protocols_ask_by_name(
    run_router: Run, place: RouterFolder, three: Retriever
) -> None:
    promote(place.store, NUMBER)
    (port,) = free_ports(1)
    quotas = {"engagement": 20.0, "relevance": 30.0, "subject": 50.0}
    expected = offline(three, ASKED["triggers"], ASKED["k"], quotas)
    with run_router(f"listen.grpc_port={port}") as router:
        with Client(f"http://127.0.0.1:{router.port}") as client:
            found = client.retrieve(**ASKED, quotas=quotas)
            assert [(one.item_id, one.head, one.trigger_id) for one in found.candidates] == expected
            assert (found.alpha, found.quotas) == (None, quotas)
            near = client.similar("i07", k=4, quotas={"subject": 100})
            assert {one.head for one in near.candidates} == {"subject"}
        asked = wire.RetrieveRequest(
            triggers=[wire.Trigger(item_id=item) for item in ASKED["triggers"]],
            k=ASKED["k"],
            quotas=quotas,
        )
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(
                "/mtmh.v1.Router/Retrieve",
                request_serializer=wire.RetrieveRequest.SerializeToString,
                response_deserializer=wire.Answer.FromString,
            )
            answer = call(asked)
            found = [(one.item_id, one.head, one.trigger_id) for one in answer.candidates]
            assert (found, dict(answer.quotas)) == (expected, quotas)
            assert not answer.HasField("alpha")
            with pytest.raises(grpc.RpcError) as refused:
                call(wire.RetrieveRequest(user_id="u03", quotas={"novelty": 100}))
            assert "no channel 'novelty'" in refused.value.details()
        promote(place.store, "1")
        eventually(lambda: router.retrieve(**ASKED)["model_version"] == "1", "1 serves again")
