"""MLflow as the project uses it: one experiment, one registered model a data set, the alias `champion`.

Plain functions over the client; mlflow (1.6 s) is imported where it is used.
"""

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from urllib.request import url2pathname

from mtmh.environment import set_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "mtmh"
CHAMPION = "champion"
KEPT = ("config.yaml", "metrics.json", "report.html", "alpha.png", "alpha.svg", "rejected.parquet", "retriever")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model; no such alias


def connect(tracking_uri: str) -> "MlflowClient":
    """Open MLflow at `tracking_uri` without telemetry; an SQLite file is created on first use (2 s)."""
    set_environment()
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def champion_of(client: "MlflowClient", model_name: str) -> "ModelVersion | None":
    """The version that holds the alias `champion`, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def champion_location(tracking_uri: str, model_name: str) -> str:
    """Where the champion's retriever directory lies (a path or a remote URI); empty when there is none."""
    if tracking_uri.startswith("sqlite:///") and not Path(unquote(tracking_uri.removeprefix("sqlite:///"))).exists():
        print(f"{model_name} has no champion yet")
        return ""
    version = champion_of(connect(tracking_uri), model_name)
    if version is None:
        print(f"{model_name} has no champion yet")
        return ""
    location = version.source or ""
    if location.startswith("file://"):
        location = url2pathname(location.removeprefix("file://"))
    if "://" not in location and not Path(location).is_dir():
        print(f"version {version.version} is the champion, but its files are gone from {location}: going on without it")
        return ""
    print(f"version {version.version} of {model_name}: {location}")
    return location


def logged_run(tracking_uri: str, model_name: str, version: str) -> str:
    """The id of the MLflow run that a registered version came from."""
    return str(connect(tracking_uri).get_model_version(model_name, version).run_id)


def fetch(location: str) -> Path:
    """The directory at `location`, downloaded first when it is remote."""
    if "://" not in location:
        return Path(location)
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(artifact_uri=location, dst_path=tempfile.mkdtemp(prefix="champion-")))


def register_run(run: Path, model_name: str, tracking_uri: str, artifacts: str) -> str:
    """Log the run directory and register its retriever; move the alias `champion` when its gate passed.

    A retriever that is registered already (same manifest) keeps its version. Returns the version's number.
    """
    client = connect(tracking_uri)
    metrics = json.loads((run / "metrics.json").read_text())
    run_id = _log(client, run, metrics, _experiment(client, artifacts))
    version = _version(client, run, model_name, run_id)
    passed = bool(metrics["gate"]["passed"])
    client.set_model_version_tag(model_name, version.version, "gate", "passed" if passed else "rejected")
    if passed:
        client.set_registered_model_alias(model_name, CHAMPION, version.version)
    print(f"version {version.version} of {model_name}: {'champion' if passed else 'registered, not champion'}")
    return str(version.version)


def _experiment(client: "MlflowClient", artifacts: str) -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return str(known.experiment_id)
    return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts or None))


def _log(client: "MlflowClient", run: Path, metrics: dict[str, Any], experiment: str) -> str:
    import yaml
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    config = yaml.safe_load((run / "config.yaml").read_text())
    params = [Param(key, str(value)) for key, value in flatten(config, ".")]
    figures = [(key, value) for key, value in flatten(metrics["models"], "/") if value is not None]
    figures += flatten({"seconds": metrics["seconds"], "peak_memory_mb": metrics["peak_memory_mb"]}, "/")
    points = [Metric(legal(key), float(value), now, 0) for key, value in figures]
    points += [Metric(legal(f"training/{key}"), value, now, step) for key, step, value in _curves(run)]
    tags = {
        "code_version": metrics["code_version"],
        "data_fingerprint": metrics["data"]["fingerprint"],
        "gate": "passed" if metrics["gate"]["passed"] else "rejected",
        "run_directory": str(run),
    }
    run_id = str(client.create_run(experiment, run_name=run.name).info.run_id)
    client.log_batch(run_id, metrics=points[:1000], params=params, tags=[RunTag(k, str(v)) for k, v in tags.items()])
    for start in range(1000, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])
    _log_data(client, run_id, metrics["data"])
    for name in KEPT:
        path = run / name
        if path.is_dir():
            client.log_artifacts(run_id, str(path), name)
        elif path.exists():
            client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)
    return run_id


def _log_data(client: "MlflowClient", run_id: str, data: dict[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput

    profile = json.dumps({key: value for key, value in data.items() if key not in ("path", "fingerprint")})
    source = json.dumps({"uri": str(data["path"])})
    name = Path(str(data["path"])).name
    dataset = Dataset(name, str(data["fingerprint"])[:36], "local", source, profile=profile)
    client.log_inputs(run_id, datasets=[DatasetInput(dataset)])


def _curves(run: Path) -> Iterator[tuple[str, int, float]]:
    """Points (name, step, value) of the training curves, where the run directory keeps them."""
    path = run / "curves.parquet"
    if not path.exists():
        return
    import pyarrow.parquet as pq

    for row in pq.read_table(path).to_pylist():
        step = int(row.pop("step"))
        yield from ((key, step, float(value)) for key, value in row.items() if value is not None)


def _version(client: "MlflowClient", run: Path, model_name: str, run_id: str) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    manifest = hashlib.sha256((run / "retriever" / "manifest.json").read_bytes()).hexdigest()
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = client.search_model_versions(f"name = '{model_name}' and tag.manifest = '{manifest}'")
    if known:
        return known[0]
    source = f"{client.get_run(run_id).info.artifact_uri}/retriever"
    return client.create_model_version(model_name, source=source, run_id=run_id, tags={"manifest": manifest})


def flatten(nested: dict[str, Any], separator: str) -> list[tuple[str, Any]]:
    """Leaves of nested dictionaries as (joined key, value)."""
    leaves: list[tuple[str, Any]] = []
    for key, value in nested.items():
        if isinstance(value, dict):
            leaves += [(f"{key}{separator}{below}", leaf) for below, leaf in flatten(value, separator)]
        else:
            leaves.append((str(key), value))
    return leaves


def legal(name: str) -> str:
    """A metric name that MLflow takes: letters, digits, and _ - . / and space."""
    return re.sub(r"[^\w\-./ ]", "_", name)
