"""The registered model: a version's number, when the alias `champion` moves, and the champion's
files wherever MLflow keeps them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_api import StandIn, Trouble, running
from helpers.mlflow_server import mlflow_server
from helpers.run_directory import write_run
from helpers.s3_server import reach, s3_server
from helpers.small_package import write_small_package
from kfp import dsl
from kubernetes import client

from components import registry, tracking
from components.deploy import deploy
from components.register import register
from mtmh.errors import UserError
from serving.cluster.pods import Cluster, RolloutError
from serving.triton import store as packages

MODEL = "mtmh-tiny"
# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated; its pyfunc warns of own
# types.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),
]


def registered(run: Path, uri: str, artifacts: str = "") -> str:
    """The number that the step register gives the run."""
    artifact = dsl.Artifact(name="run", uri=str(run))
    number: str = register.python_func(
        run=artifact,
        model_name=MODEL,
        tracking_uri=uri,
        artifacts=artifacts,
        run_id=run.name,
    )
    return number


def deployed(run: Path, version: str, uri: str, folder: Path, namespace: str = "") -> None:
    """The step deploy over a small package of the version."""
    package = folder / f"package-{version}"
    if not package.exists():
        write_small_package(package, version)
    deploy.python_func(
        run=dsl.Artifact(name="run", uri=str(run)),
        package=dsl.Artifact(name="package", uri=str(package)),
        approved=True,
        version=version,
        champion_link=str(folder / "champions" / "tiny"),
        store=str(folder / "serving" / "tiny"),
        model_name=MODEL,
        tracking_uri=uri,
        namespace=namespace,
    )


def champion_number(uri: str) -> str | None:
    version = registry.champion_of(tracking.connect(uri), MODEL)
    return None if version is None else str(version.version)


@pytest.fixture(scope="module", params=["served", "bucket", "disk"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_database: bytes
) -> Iterator[tuple[str, Path]]:
    """URL and folder of the artifacts of a real MLflow server: it hands them out of a bucket of a
    real S3 server, or everybody reads them there, or from a disk.
    """
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "mlflow.db").write_bytes(empty_database)
    artifacts = folder / "bucket" / "mlflow"
    artifacts.parent.mkdir()
    options = {
        "served": ("--serve-artifacts", "--artifacts-destination", "s3://bucket/mlflow"),
        "bucket": ("--no-serve-artifacts", "--default-artifact-root", "s3://bucket/mlflow"),
        "disk": ("--no-serve-artifacts", "--default-artifact-root", str(artifacts)),
    }[request.param]
    with s3_server(folder) as keys, pytest.MonkeyPatch.context() as client:
        # Where the server hands the artifacts out, no client has a key.
        if request.param == "bucket":
            reach(client, keys)
        with mlflow_server(folder / "mlflow.db", *options, **keys) as url:
            yield url, artifacts


def test_a_champion_on_a_server_is_fetched_or_the_step_fails(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all modes of the server's artifacts; the default one's URIs have one slash
    (mlflow-artifacts:/1/..).
    """
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # else minutes for what is gone
    url, artifacts = server
    assert registry.champion_location(url, MODEL) == ""
    version = registered(write_run(tmp_path / "run", passed=True, weights="1"), url)
    registry.make_champion(url, MODEL, version)
    location = registry.champion_location(url, MODEL)
    fetched = registry.fetch(location)
    assert json.loads((fetched / "manifest.json").read_text())["weights"] == "1"
    assert (fetched / "items.parquet").is_file()
    artifacts.rename(artifacts.with_name("elsewhere"))
    message = f"version {version} of {MODEL} is the champion, but its files cannot be read from "
    with pytest.raises(UserError, match=message + r"\S*retriever .*Bring them back there, or"):
        registry.champion_location(url, MODEL)
    if not location.startswith("/"):
        with pytest.raises(UserError, match=r"cannot be downloaded from (http|s3)"):
            registry.fetch(location)


@pytest.mark.parametrize("form", ["{path}", "file:{path}", "file://{path}"])
def test_a_champion_on_this_disk_is_read_where_it_lies(tmp_path: Path, uri: str, form: str) -> None:
    retriever = write_run(tmp_path / "a run", passed=True) / "retriever"
    source = form.format(path=retriever if form == "{path}" else retriever.as_uri()[7:])
    mlflow = tracking.connect(uri)
    mlflow.create_registered_model(MODEL)
    registry.make_champion(uri, MODEL, mlflow.create_model_version(MODEL, source).version)
    assert registry.fetch(registry.champion_location(uri, MODEL)) == retriever


@pytest.mark.parametrize(
    "source", ["mlflow-artifacts:/1/run/retriever", "nowhere:/1/retriever", "/not/there"]
)
def test_a_champion_that_cannot_be_read_is_not_left_out(uri: str, source: str) -> None:
    """An SQLite file is no server that could hand artifacts out."""
    mlflow = tracking.connect(uri)
    mlflow.create_registered_model(MODEL)
    registry.make_champion(uri, MODEL, mlflow.create_model_version(MODEL, source).version)
    with pytest.raises(UserError, match=f"version 1 of {MODEL} is the champion.*{source}"):
        registry.champion_location(uri, MODEL)


def test_no_database_no_champion(tmp_path: Path) -> None:
    assert registry.champion_location(f"sqlite:///{tmp_path / 'mlflow.db'}", MODEL) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_number_is_of_a_retriever_and_its_serving_settings(tmp_path: Path, uri: str) -> None:
    """Other settings give another package, and so another number."""
    artifacts = (tmp_path / "mlartifacts").as_uri()
    first = registered(write_run(tmp_path / "a", passed=True), uri, artifacts)
    assert registered(write_run(tmp_path / "b", passed=False), uri, artifacts) == first
    numbers = {
        registered(write_run(tmp_path / name, passed=True, settings={name: value}), uri, artifacts)
        for name, value in {"alpha": 30, "pool": 400, "triggers": 9, "temperature": 0.2}.items()
    }
    assert len(numbers | {first}) == 5
    assert registered(write_run(tmp_path / "w", True, weights="2"), uri, artifacts) not in numbers


def test_the_alias_moves_when_the_version_serves(tmp_path: Path, uri: str) -> None:
    """Not before, and never for a run whose gate did not pass."""
    artifacts = (tmp_path / "mlartifacts").as_uri()
    good = write_run(tmp_path / "good", passed=True, weights="1")
    first = registered(good, uri, artifacts)
    assert champion_number(uri) is None
    deployed(good, first, uri, tmp_path)
    assert champion_number(uri) == packages.champion(tmp_path / "serving" / "tiny") == first
    bad = write_run(tmp_path / "bad", passed=False, weights="2")
    second = registered(bad, uri, artifacts)
    with pytest.raises(UserError, match="did not pass the gate"):
        deployed(bad, second, uri, tmp_path)
    assert champion_number(uri) == packages.champion(tmp_path / "serving" / "tiny") == first
    versions = tracking.connect(uri).search_model_versions(f"name = '{MODEL}'")
    assert {str(version.version): version.tags["gate"] for version in versions} == {
        first: "passed",
        second: "rejected",
    }


def test_where_the_rollout_fails_the_alias_is_where_it_was(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, store = (tmp_path / "mlartifacts").as_uri(), tmp_path / "serving" / "tiny"
    old, new = (write_run(tmp_path / name, passed=True, weights=name) for name in ("old", "new"))
    first, second = (registered(run, uri, artifacts) for run in (old, new))
    with running(StandIn(store)) as api:
        configuration = client.Configuration(host=api.url)
        monkeypatch.setattr(
            "serving.cluster.pods.connected", lambda: client.ApiClient(configuration)
        )
        monkeypatch.setattr(
            "serving.cluster.pods.Cluster",
            lambda connection, namespace: Cluster(connection, namespace, 20.0, pause=0.01),
        )
        deployed(old, first, uri, tmp_path, "mtmh")
        assert champion_number(uri) == api.champion == first
        api.trouble = Trouble(broken=second)
        with pytest.raises(RolloutError, match=f"Version {first} serves as before"):
            deployed(new, second, uri, tmp_path, "mtmh")
        assert champion_number(uri) == api.champion == first
        api.trouble = Trouble()
        deployed(new, second, uri, tmp_path, "mtmh")
        assert champion_number(uri) == api.champion == second
