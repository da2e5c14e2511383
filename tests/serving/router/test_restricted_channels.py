"""Heads and clusters as channels, and a topic beside them, behind the router: what it answers is the
offline merge.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers.checkerboard import SUBJECT, Stages, retrieval_settings, write_preranker
from helpers.live_router import Router, RouterFolder, Run, eventually, remove

from components.writers import WRITERS
from mtmh.config import RetrievalSettings
from mtmh.exposures.read import read
from mtmh.heads import HEADS
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Request, Retriever, merge_pools
from serving.triton.export import write_package
from serving.triton.store import install, promote

ITEMS = [f"i{number:02d}" for number in range(44)]
CLUSTERS = {f"{head}_{n}": (head, f"cluster:{n}/2") for head in HEADS for n in (1, 2)}
CHANNELS = {**CLUSTERS, "subject": ("relevance", "topic:subject 1")}
QUOTAS = dict(zip(CHANNELS, (30.0, 20.0, 25.0, 15.0, 10.0), strict=True))
NUMBER = "80"


@pytest.fixture(scope="module")
def divided(
    world: Stages,
    trained: Callable[[str], Path],
    place: RouterFolder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Retriever]:
    """Version 80 in the store: two heads x two clusters and a topic, with a preranker; the same
    offline."""
    root = tmp_path_factory.mktemp("divided")
    channels = [
        {"name": name, "head": head, "items": items, "quota": int(QUOTAS[name])}
        for name, (head, items) in CHANNELS.items()
    ]
    folders = replace(
        world, model=trained("mtmh"), preranker=write_preranker(world, root / "preranker")
    )
    (root / "retriever").mkdir()
    WRITERS["index"](folders, root / "retriever", retrieval_settings(channels=channels), 0, root)
    install(
        write_package(root / "retriever", NUMBER, root / "package", place.features), place.store
    )
    yield Retriever.load(root / "retriever")
    remove(place.store, NUMBER)


@pytest.fixture
def router(run_router: Run, place: RouterFolder, divided: Retriever) -> Iterator[Router]:
    """A router before version 80."""
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
    divided: Retriever, triggers: list[str], k: int, quotas: dict[str, float]
) -> list[tuple[str, str, str]]:
    """What the offline retriever merges of its channels' pools."""
    history = Ragged.of([[ITEMS.index(item) for item in triggers]])
    request = replace(Request.of(history, history.sorted(), RetrievalSettings()), size=500)
    percent = [quotas.get(name, 0.0) for name in divided.names]
    merged = merge_pools(list(divided.pools(request).values()), percent, k)
    return [
        (ITEMS[item], divided.names[channel], ITEMS[trigger])
        for item, channel, trigger in zip(
            merged.item[0], merged.channel[0], merged.trigger[0], strict=True
        )
        if item >= 0
    ]


@pytest.mark.parametrize(
    "quotas", [None, {"engagement_2": 60.0, "relevance_1": 40.0}, {"subject": 100.0}]
)
def test_no_answer_differs_from_the_offline_merge(
    router: Router, divided: Retriever, quotas: dict[str, float] | None
) -> None:
    """For every item and some histories: of all candidates, none differs."""
    k, named = 15, {} if quotas is None else {"quotas": quotas}
    histories = [[item] for item in ITEMS] + [ITEMS[start : start + 8] for start in range(0, 36, 4)]
    differing, compared, offered = 0, 0, dict[str, set[str]]()
    for triggers in histories:
        answer = router.retrieve(triggers=triggers, k=k, **named)
        expected = offline(divided, triggers, k, quotas or QUOTAS)
        assert len(rows(answer)) == len(expected)
        differing += sum(a != b for a, b in zip(rows(answer), expected, strict=True))
        compared += len(expected)
        for item, channel, _ in rows(answer):
            offered.setdefault(channel, set()).add(item)
    assert differing == 0
    assert compared > 500
    # Each channel gives what it may, and between them the clusters leave nothing out.
    assert set(offered) >= set(quotas or CHANNELS)
    for name, items in offered.items():
        allowed = divided.allowed[name]
        assert allowed is not None
        assert items <= {ITEMS[row] for row in allowed}


def test_a_channel_alone_has_every_item_that_it_may_give(
    router: Router, divided: Retriever
) -> None:
    compared = router.post("/v1/compare", {"triggers": ["i03"], "k": 40})
    assert list(compared["lists"]) == [*CHANNELS, "merged"]
    subject = {row["item_id"] for row in compared["lists"]["subject"]}
    assert subject == {item for item, about in zip(ITEMS, SUBJECT, strict=True) if about == 1}
    of_clusters = [{row["item_id"] for row in compared["lists"][name]} for name in CLUSTERS]
    assert of_clusters[0] | of_clusters[1] == of_clusters[2] | of_clusters[3]
    assert not of_clusters[0] & of_clusters[1]
    assert of_clusters[0] | of_clusters[1] == set(ITEMS) - {"i03"}


def test_channels_of_a_head_are_one_index_in_the_store(
    divided: Retriever, place: RouterFolder
) -> None:
    models = place.store / "models"
    for name in ("index.faiss", "vectors.npy"):
        paths = [models / f"{channel}_{NUMBER}" / NUMBER / name for channel in CHANNELS]
        first, second, third, fourth, subject = paths
        assert os.path.samefile(first, second)
        assert os.path.samefile(third, fourth)
        assert os.path.samefile(third, subject)
        assert not os.path.samefile(first, third)


def test_figures_log_and_arms_name_the_channels(
    run_router: Run, place: RouterFolder, divided: Retriever, tmp_path: Path
) -> None:
    promote(place.store, NUMBER)
    arms = [{"name": "one", "weight": 1, "quotas": {"engagement_1": 50.0, "subject": 50.0}}]
    config = tmp_path / "router.yaml"
    config.write_text(yaml.safe_dump({"experiment": {"salt": "s", "arms": arms}}))
    triggers = ["i00", "i11"]
    with run_router(f"log.directory={tmp_path / 'log'}", config=config) as router:
        answer = router.retrieve(triggers=triggers, k=10, user_id="u")
        assert rows(answer) == offline(divided, triggers, 10, arms[0]["quotas"])
        for name in CHANNELS:
            own = [one for one in answer["candidates"] if one["head"] == name]
            assert router.metric("mtmh_merged_candidates_total", head=name) == len(own)
        said = router.retrieve(422, triggers=triggers, quotas={"relevance": 100})["error"]
        assert "no channel 'relevance'; it has engagement_1, engagement_2, relevance_1," in said
        config.write_text("experiment: {arms: null}\n")
        promote(place.store, "1")
        eventually(
            lambda: router.client.get("/readyz").json()["model_version"] == "1", "1 serves again"
        )
    log = read(tmp_path / "log", tmp_path / "none").exposures.to_pyarrow().to_pylist()
    assert {row["arm_quotas"] for row in log} == {"engagement_1 50, subject 50"}
    assert {row["head"] for row in log} == {one["head"] for one in answer["candidates"]}
