"""A run in MLflow: one experiment for all of them, and its retriever as a version of the data set's
registered model (`components/registry.py` has the champion).

Plain functions over the client; mlflow (1.6 s) is imported where it is used.
"""

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmh.environment import set_environment
from mtmh.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "mtmh"
LOGGED_FILES = (
    "config.yaml",
    "metrics.json",
    "report.html",
    "alpha.png",
    "alpha.svg",
    "rejected.parquet",
    "candidates.parquet",
    "retriever",
)
RUN_ID = "MLFLOW_RUN_ID"  # in the environment where Kubeflow opened a run for the step
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model; no such alias


def connect(tracking_uri: str) -> "MlflowClient":
    """Open MLflow at `tracking_uri` without telemetry; an SQLite file is created on first use
    (2 s). Raises UserError when there is a server that does not answer, or refuses."""
    set_environment()
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    if tracking_uri.startswith("http"):
        _check_open(client, tracking_uri)
    return client


def _check_open(client: "MlflowClient", tracking_uri: str) -> None:
    """Ask the server for little, so that what keeps it closed is said before any work."""
    from mlflow.exceptions import MlflowException

    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        why = str(error).partition("\n")[0][:500]
        raise UserError(
            f"the MLflow server {tracking_uri} does not let us in: {why}. Look at --tracking-uri,"
            " and at MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
            " MLFLOW_TRACKING_TOKEN (on a cluster the Secret of cluster.mlflow_secret)."
        ) from error


def register_run(
    run: Path, model_name: str, tracking_uri: str, artifacts: str, name: str = ""
) -> str:
    """Log the run directory, as a run called `name` (by default the folder's), and register its
    retriever, tagged with the gate's verdict. The alias `champion` stays where it is: it moves when
    the version serves (`registry.make_champion`).

    A version's number is its package's: the same retriever with the same serving settings keeps
    its number, with others it gets a new one. Returns the version's number.
    """
    from mlflow.exceptions import MlflowException

    from serving.triton.export import package_key

    client = connect(tracking_uri)
    metrics = json.loads((run / "metrics.json").read_text())
    run_id = _open_run(client, name or run.name, artifacts, tracking_uri)
    _log(client, run, metrics, run_id)
    # Kubeflow ends the run that it opened.
    if RUN_ID not in os.environ:
        client.set_terminated(run_id)
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # What makes the same package is the same version, whoever registers it again.
    key = package_key(run)
    if registered := client.search_model_versions(
        f"name = '{model_name}' and tag.package = '{key}'"
    ):
        version = registered[0].version
    else:
        source = f"{client.get_run(run_id).info.artifact_uri}/retriever"
        version = client.create_model_version(model_name, source, run_id, {"package": key}).version
    # Every version is registered, so that a rejected one can be looked at.
    verdict = "passed" if metrics["gate"]["passed"] else "rejected"
    client.set_model_version_tag(model_name, version, "gate", verdict)
    print(f"version {version} of {model_name}: {verdict}")
    return str(version)


def _open_run(client: "MlflowClient", name: str, artifacts: str, tracking_uri: str) -> str:
    """The id of the MLflow run to log to: the run that Kubeflow opened for this step, else a new
    one called `name`.

    Raises UserError when MLFLOW_RUN_ID names a run of another server.
    """
    from mlflow.exceptions import MlflowException

    if RUN_ID in os.environ:
        try:
            return str(client.get_run(os.environ[RUN_ID]).info.run_id)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            raise UserError(
                f"{RUN_ID} is {os.environ[RUN_ID]}, and {tracking_uri} has no such run:"
                f" give --tracking-uri the server that Kubeflow logs to, or unset {RUN_ID}."
            ) from None
    # The first run here makes the experiment, with the place of its artifacts.
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(EXPERIMENT, artifact_location=artifacts or None)
    )
    return str(client.create_run(experiment_id, run_name=name).info.run_id)


def _log(client: "MlflowClient", run: Path, metrics: dict[str, Any], run_id: str) -> None:
    """Settings, figures, data, files and the model of a run directory."""
    import pyarrow.parquet as pq
    import yaml
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    # Leaves of the settings and of the metrics, under their paths; the training's points by step.
    now = int(time.time() * 1000)
    config = yaml.safe_load((run / "config.yaml").read_text())
    params = [Param(key, str(value)) for key, value in flatten(config, ".")]
    figures = [(key, value) for key, value in flatten(metrics["models"], "/") if value is not None]
    figures += flatten({name: metrics[name] for name in ("seconds", "peak_memory_mb")}, "/")
    points = [Metric(legal(key), float(value), now, 0) for key, value in figures]
    curves = run / "curves.parquet"
    for row in pq.read_table(curves).to_pylist() if curves.exists() else []:
        step = int(row.pop("step"))
        values = [(f"training/{key}", value) for key, value in row.items() if value is not None]
        points += [Metric(legal(key), float(value), now, step) for key, value in values]
    tags = {
        "code_version": metrics["code_version"],
        "data_fingerprint": metrics["data"]["fingerprint"],
        "gate": "passed" if metrics["gate"]["passed"] else "rejected",
        "run_directory": str(run),
    }
    # MLflow takes 1,000 metrics at once.
    run_tags = [RunTag(key, str(value)) for key, value in tags.items()]
    client.log_batch(run_id, metrics=points[:1000], params=params, tags=run_tags)
    for start in range(1000, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])
    # The data as a dataset of MLflow's: where they lie, their fingerprint, and their counts.
    data = dict(metrics["data"])
    location, digest = str(data.pop("path")), str(data.pop("fingerprint"))[:36]
    source, profile = json.dumps({"uri": location}), json.dumps(data)
    dataset = Dataset(Path(location).name, digest, "local", source, profile=profile)
    client.log_inputs(run_id, datasets=[DatasetInput(dataset)])
    # The files, and what makes the retriever directory among them a model of MLflow's.
    for name in LOGGED_FILES:
        path = run / name
        if path.is_dir():
            client.log_artifacts(run_id, str(path), name)
        elif path.exists():
            client.log_artifact(run_id, str(path))
    with tempfile.TemporaryDirectory(prefix="mlflow-") as temporary:
        model = write_model(run, Path(temporary) / "model", run_id)
        client.log_artifacts(run_id, str(model), "retriever")


def write_model(run: Path, out: Path, run_id: str) -> Path:
    """Write to `out` what makes the run's retriever directory an MLflow model once it lies there.

    That is MLmodel with signature and environment, an input example, `components/pyfunc.py`, and
    the library `mtmh` as it is now, so that the model loads where the project is not installed.
    """
    from importlib.metadata import requires

    import mlflow.pyfunc
    import pandas as pd
    import pyarrow.parquet as pq
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    import mtmh
    from mtmh.config import load_config

    settings = load_config(run / "config.yaml").retrieval
    answer = {"query": "long", "rank": "long", "item_id": "string", "score": "double"}
    answer |= {"head": "string", "trigger_id": "string"}
    # What a caller may send and gets, with the run's own alpha as the default.
    signature = ModelSignature(
        inputs=Schema([ColSpec(Array(DataType.string), "triggers")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in answer.items()]),
        params=ParamSchema(
            [
                ParamSpec("alpha", DataType.double, float(settings.alpha)),
                ParamSpec("k", DataType.long, 10),
            ]
        ),
    )
    item_id = pq.read_table(run / "retriever" / "items.parquet", columns=["item_id"])["item_id"][0]
    # From code, without a pickle; the weights lie beside it already.
    mlflow.pyfunc.save_model(
        out,
        python_model=Path(__file__).with_name("pyfunc.py"),
        code_paths=[str(Path(mtmh.__file__).parent)],
        signature=signature,
        input_example=pd.DataFrame({"triggers": [[item_id.as_py()]]}),
        pip_requirements=[line for line in requires("mtmh") or [] if "extra ==" not in line],
        model_config=settings.model_dump(mode="json"),
        mlflow_model=Model(artifact_path="retriever", run_id=run_id),
    )
    return out


def flatten(nested: dict[str, Any], separator: str) -> list[tuple[str, Any]]:
    """Leaves of nested dictionaries as (joined key, value)."""
    leaves: list[tuple[str, Any]] = []
    for key, value in nested.items():
        if isinstance(value, dict):
            for below, leaf in flatten(value, separator):
                leaves.append((f"{key}{separator}{below}", leaf))
        else:
            leaves.append((str(key), value))
    return leaves


def legal(name: str) -> str:
    """A metric name that MLflow takes: letters, digits, and _ - . / and space."""
    return re.sub(r"[^\w\-./ ]", "_", name)
