"""MLflow's server as k8s/overlays/mlflow starts it: over a real PostgreSQL and a real bucket, for
those who know its password.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.mlflow_server import mlflow_server
from helpers.postgres_server import postgres_server
from helpers.run_directory import write_run
from helpers.s3_server import s3_server

from components import registry, tracking
from components.register import register
from mtmh.errors import UserError
from pipelines.kubeflow import MLFLOW_KEYS

OVERLAY = Path(__file__).parents[2] / "k8s" / "overlays" / "mlflow"
DATABASE = "postgresql+psycopg://mlflow@postgres:5432/mlflow"
SECRET = {"username": "steps", "password": "a-password-of-the-test"}
OWN = ("--host", "--port", "--workers", "--allowed-hosts")  # what a test sets for itself
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")


def container() -> Any:
    bodies = yaml.safe_load_all((OVERLAY / "server.yaml").read_text())
    deployment = next(body for body in bodies if body["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its URL, and the folder of the bucket."""
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "bucket").mkdir()
    with s3_server(folder) as keys, postgres_server() as database:
        (folder / "auth.ini").write_text(
            (OVERLAY / "basic_auth.ini").read_text().replace(DATABASE, database)
        )
        options = [
            word.replace(DATABASE, database).replace("$(MLFLOW_ARTIFACTS)", "s3://bucket/mlflow")
            for word in container()["command"][2:]
            if not word.startswith(OWN)
        ]
        variables = {
            **keys,
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": SECRET["username"],
            "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET["password"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "for-the-page",
        }
        with mlflow_server(folder / "mlflow.db", *options, **variables) as url:
            yield url, folder / "bucket" / "mlflow"


def test_the_server_registers_and_hands_out_to_those_with_its_password(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, bucket = server
    refused = f"the MLflow server {url} does not let us in: .*Look at --tracking-uri"
    with pytest.raises(UserError, match=refused):
        tracking.connect(url)
    # As the steps get them from the Secret.
    for key, value in SECRET.items():
        monkeypatch.setenv(MLFLOW_KEYS[key], value)
    run = write_run(tmp_path / "run", passed=True, weights="1")
    from kfp import dsl

    version = register.python_func(
        run=dsl.Artifact(name="run", uri=str(run)),
        model_name="mtmh-tiny",
        tracking_uri=url,
        artifacts="",
        run_id="run",
    )
    registry.make_champion(url, "mtmh-tiny", version)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fetched = registry.fetch(registry.champion_location(url, "mtmh-tiny"))
    kept = (run / "retriever" / "manifest.json").read_bytes()
    assert (fetched / "manifest.json").read_bytes() == kept
    assert [path.read_bytes() for path in bucket.rglob("retriever/manifest.json")] == [kept]
    monkeypatch.setenv(MLFLOW_KEYS["password"], "wrong")
    with pytest.raises(UserError, match=refused):
        tracking.connect(url)
