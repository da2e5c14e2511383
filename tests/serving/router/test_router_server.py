"""The same simulated users, served by the real router over the real Triton and by the retriever in
this process.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from helpers.asking import Serving
from helpers.live_router import Router, running
from helpers.small_version import RETRIEVAL, SETTINGS

from mtmh.errors import UserError
from mtmh.experiment.arms import Arm, assign_all
from mtmh.exposures.read import read
from mtmh.ids import Ids
from mtmh.ragged import Ragged
from mtmh.retrieval.retriever import Retriever
from simulation.behaviour import DEFAULT
from simulation.local_server import LocalServer
from simulation.platform import simulate
from simulation.population import Population, populate
from simulation.router_server import RouterServer
from simulation.server import Server

ARMS = (Arm(name="engagement-only", alpha=100), Arm(name="mtmh", alpha=50))
SALT, USERS, DAYS = "simulated", 250, 2
ANSWER = [
    "request_id",
    "timestamp",
    "user_id",
    "arm",
    "alpha",
    "degraded",
    "k",
    "item_id",
    "head",
    "head_rank",
]
ANSWER += ["trigger_id", "position"]


@pytest.fixture(scope="module")
def people() -> Population:
    return populate(SETTINGS.synthetic, 0, USERS, DAYS, DEFAULT)


@pytest.fixture(scope="module")
def router(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """With the experiment, and a log of its own."""
    root = tmp_path_factory.mktemp("router")
    experiment = {"salt": SALT, "arms": [{"name": arm.name, "alpha": arm.alpha} for arm in ARMS]}
    (root / "router.yaml").write_text(yaml.safe_dump({"experiment": experiment}))
    with running(
        serving.store,
        serving.triton.ports,
        serving.triton.secret,
        f"log.directory={root / 'log'}",
        config=root / "router.yaml",
    ) as one:
        yield one


@pytest.fixture(scope="module")
def offline(retriever_of: Callable[[str], Retriever]) -> Retriever:
    return retriever_of("1")


def through(
    router: Router, people: Population, offline: Retriever, arms: tuple[Arm, ...] = ARMS
) -> RouterServer:
    url = f"http://127.0.0.1:{router.port}"
    known = offline.items["item_id"]
    return RouterServer(url, people.user_ids, people.item_table, known, RETRIEVAL.triggers, arms)


def log_of(server: Server, people: Population, out: Path) -> tuple[pa.Table, pa.Table]:
    """Exposures and engagements of a simulation, in an order of their own."""
    simulate(people, DEFAULT, server, ARMS, SALT, 0, out)
    logged = read(out / "log", out / "tables")
    exposures = logged.exposures.to_pyarrow().sort_by(
        [("request_id", "ascending"), ("position", "ascending")]
    )
    keys = [(name, "ascending") for name in ("timestamp", "user_id", "item_id")]
    return exposures, logged.engagements.to_pyarrow().sort_by(keys)


def test_users_live_alike_whoever_serves_them(
    router: Router, people: Population, offline: Retriever, tmp_path: Path
) -> None:
    own = log_of(LocalServer(offline, RETRIEVAL, people.item_table, ARMS), people, tmp_path / "own")
    with through(router, people, offline) as server:
        served = log_of(server, people, tmp_path / "router")
    assert own[0].num_rows > 1000
    assert set(served[0]["model_version"].to_pylist()) == {"1"}
    assert served[0].select(ANSWER).equals(own[0].select(ANSWER))
    assert served[1].equals(own[1])
    np.testing.assert_allclose(served[0]["score"].to_numpy(), own[0]["score"].to_numpy(), rtol=1e-3)


def test_the_routers_own_log_has_the_whole_answers_in_the_time_of_the_clock(
    router: Router, people: Population, offline: Retriever
) -> None:
    users = np.arange(20)
    first = np.unique(people.history.user, return_index=True)[1][:20]
    triggers = Ragged(np.arange(21), people.history.item[first])
    names = assign_all(people.user_ids.slice(0, 20), SALT, ARMS)
    arms = Ids([arm.name for arm in ARMS]).rows(names)
    with through(router, people, offline) as server:
        slates = server.answer(users, triggers, arms, 30)
    assert (slates.item[:, -1] >= 0).all()
    assert not slates.degraded.any()
    directory = router.service.settings.log.directory
    assert directory is not None
    exposures = read(directory, directory.with_name("tables")).exposures.to_pyarrow()
    of_users = exposures.filter(
        pc.is_in(exposures["user_id"], value_set=people.user_ids.slice(0, 20))
    )
    whole = of_users.filter(pc.equal(of_users["k"], 30))
    assert whole.num_rows == 20 * 30
    assert pc.min(whole["timestamp"]).as_py().year >= 2026


def test_a_router_of_another_experiment_is_refused(
    router: Router, people: Population, offline: Retriever
) -> None:
    other = (Arm(name="engagement-only", alpha=100), Arm(name="mtmh", alpha=30))
    refused = pytest.raises(
        UserError, match=r"in arm '.*' with alpha .*give the router this experiment's salt and arms"
    )
    with through(router, people, offline, other) as server, refused:
        server.answer(np.arange(2), Ragged.of([[3], [4]]), np.array([1, 1]), 10)


def test_nobody_there_is_said(people: Population, offline: Retriever) -> None:
    known = offline.items["item_id"]
    refused = pytest.raises(UserError, match=r"no router answers at http://127.0.0.1:9.*mtmh serve")
    with (
        RouterServer(
            "http://127.0.0.1:9", people.user_ids, people.item_table, known, 12, ARMS
        ) as server,
        refused,
    ):
        server.answer(np.arange(1), Ragged.of([[3]]), np.array([0]), 10)
