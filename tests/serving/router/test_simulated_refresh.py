"""Simulated users served by a router whose index takes new items in while they live."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.live_router import Router, running
from helpers.processes import triton_ports
from helpers.small_version import RETRIEVAL, SETTINGS, write_run, write_world

from mtmh.experiment.arms import Arm
from mtmh.exposures.read import read
from mtmh.retrieval import query
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import add_items
from serving.triton.export import write_package
from serving.triton.store import champion, install, promote
from serving.triton.supervisor import triton
from simulation.behaviour import DEFAULT
from simulation.local_server import LocalServer
from simulation.platform import simulate
from simulation.population import populate
from simulation.router_server import RouterServer, into_store

ARMS = (Arm(name="engagement-only", alpha=100), Arm(name="mtmh", alpha=50))
SAME = [
    "request_id",
    "timestamp",
    "user_id",
    "arm",
    "item_id",
    "head",
    "head_rank",
    "trigger_id",
    "position",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its version takes new items in by their creators."""
    root = tmp_path_factory.mktemp("run")
    return write_run(write_world(root / "world", length=False), root / "run")


@pytest.fixture(scope="module")
def served(
    installed: None, run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Router, Path]]:
    """A router of the experiment over a Triton and a store of their own."""
    root = tmp_path_factory.mktemp("served")
    install(write_package(run, "1", root / "package"), root / "store")
    promote(root / "store", "1")
    arms = [{"name": arm.name, "alpha": arm.alpha} for arm in ARMS]
    (root / "router.yaml").write_text(
        yaml.safe_dump({"experiment": {"salt": "salt", "arms": arms}})
    )
    with (
        triton(root / "store", triton_ports()) as server,
        running(root / "store", server.ports, server.secret, config=root / "router.yaml") as router,
    ):
        yield router, root / "store"


def test_new_items_enter_the_routers_index_as_they_do_in_process(
    run: Path, served: tuple[Router, Path], tmp_path: Path
) -> None:
    router, store = served
    people = populate(SETTINGS.synthetic, 0, 150, 2, DEFAULT)
    known = query.load(run).items["item_id"]
    logs = []
    with into_store(run, store) as add_new:
        url = f"http://127.0.0.1:{router.port}"
        asked = (
            url,
            people.user_ids,
            people.item_table,
            known,
            RETRIEVAL.triggers,
            ARMS,
            None,
            add_new,
        )
        with RouterServer(*asked) as server:
            simulate(people, DEFAULT, server, ARMS, "salt", 0, tmp_path / "router")
            assert (server.row_of >= 0).sum() == people.published(people.start + 1)
    intake = Intake.load(run)
    own = LocalServer(
        query.load(run),
        RETRIEVAL,
        people.item_table,
        ARMS,
        lambda kept, new: add_items(kept, new, intake),
    )
    simulate(people, DEFAULT, own, ARMS, "salt", 0, tmp_path / "own")
    for name in ("router", "own"):
        order = [("request_id", "ascending"), ("position", "ascending")]
        logs.append(
            read(tmp_path, tmp_path / name / "tables").exposures.to_pyarrow().sort_by(order)
        )
    assert logs[0].select(SAME).equals(logs[1].select(SAME))
    by_day = logs[0].group_by(["day", "model_version"]).aggregate([]).sort_by("day")
    assert by_day["model_version"].to_pylist() == ["1", champion(store)]
    assert champion(store) != "1"
