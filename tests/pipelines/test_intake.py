"""`mtmh intake`: new items of a folder come to what serves, on one machine and on a cluster."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.cluster_api import StandIn, running
from helpers.command_line import mtmh
from helpers.fresh_world import FreshWorld
from helpers.small_cluster import kubeconfig

from components.tracking import connect
from serving.cluster.pods import Cluster, connected
from serving.cluster.rollout import roll_out
from serving.triton import store as packages
from serving.triton.export import write_package

# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
MODEL = "mtmh-tiny"


@pytest.fixture
def uri(fresh: FreshWorld, tmp_path: Path) -> str:
    """MLflow with the run of version 1, as the step register logs it."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = connect(uri)
    experiment = client.create_experiment("mtmh", (tmp_path / "mlartifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_artifact(run_id, str(fresh.before / "config.yaml"))
    client.log_artifacts(run_id, str(fresh.before / "retriever"), "retriever")
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, "retriever", run_id)
    return uri


@pytest.fixture
def store(fresh: FreshWorld, tmp_path: Path) -> Path:
    """Version 1 is installed; nothing serves yet."""
    packages.install(write_package(fresh.before, "1", tmp_path / "package"), tmp_path / "tiny")
    return tmp_path / "tiny"


def item_ids(store: Path, version: str) -> list[str]:
    ids: list[str] = pq.read_table(store / "versions" / version / "items.parquet")[
        "item_id"
    ].to_pylist()
    return ids


def test_new_items_serve_and_a_folder_without_any_ends_well(
    fresh: FreshWorld,
    store: Path,
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packages.promote(store, "1")
    new = tmp_path / "new"
    new.mkdir()
    command = ["intake", str(new), "--store", str(store), "--tracking-uri", uri]
    command += ["--cache", str(fresh.cache)]
    assert mtmh(monkeypatch, *command) == 0
    assert "no new items" in capsys.readouterr().out
    # Files come one after the other and stay; the second has an item of the first again.
    pq.write_table(fresh.new.slice(0, 3), new / "monday.parquet")
    assert mtmh(monkeypatch, *command) == 0
    assert "version 10001 serves, with 3 new items" in capsys.readouterr().out
    assert mtmh(monkeypatch, *command) == 0
    assert "no new items: version 10001 holds all 3" in capsys.readouterr().out
    pq.write_table(fresh.new.slice(2, 4), new / "tuesday.parquet")
    assert mtmh(monkeypatch, *command) == 0
    assert "version 10002 serves, with 3 new items" in capsys.readouterr().out
    assert packages.champion(store) == "10002"
    added = set(item_ids(store, "10002")) - set(item_ids(store, "1"))
    assert added == set(fresh.new["item_id"].to_pylist()[:6])
    pq.write_table(pa.table({"id": ["a"]}), new / "wrong.parquet")
    assert mtmh(monkeypatch, *command) == 2
    assert "wrong.parquet has no column item_id; it has id" in capsys.readouterr().err


def test_on_a_cluster_the_refresh_is_rolled_out(
    fresh: FreshWorld,
    store: Path,
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    pq.write_table(fresh.new.slice(0, 3), new / "items.parquet")
    command = ["intake", str(new), "--store", str(store), "--tracking-uri", uri]
    command += ["--cache", str(fresh.cache)]
    with running(StandIn(store)) as api:
        config = kubeconfig(tmp_path / "kubeconfig", api.url)
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config)
        )
        roll_out(store, "1", Cluster(connected(), "mtmh", pause=0.01))
        assert mtmh(monkeypatch, *command) == 2  # it would be served by nobody
        assert "--namespace mtmh" in capsys.readouterr().err
        assert api.champion == "1"
        assert mtmh(monkeypatch, *command, "--namespace", "mtmh") == 0
        assert (api.champion, api.serving) == ("10002", {"10002"})
        assert api.history[-1] == "1 10002"
        assert api.unserved == set()
