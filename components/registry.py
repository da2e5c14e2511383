"""MLflow's registered models as the project uses them: one a data set; the version that serves has
the alias `champion`.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from components.tracking import ABSENT, connect
from mtmh.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"


def champion_of(client: "MlflowClient", model_name: str) -> "ModelVersion | None":
    """The version that holds the alias `champion`, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def make_champion(tracking_uri: str, model_name: str, version: str) -> None:
    """Move the alias `champion` to a registered version that serves."""
    connect(tracking_uri).set_registered_model_alias(model_name, CHAMPION, version)


def champion_location(tracking_uri: str, model_name: str) -> str:
    """Where the champion's retriever directory lies, as `fetch` takes it: a path, or a URI that
    names its server. Empty when there is no champion.

    Raises UserError when there is one whose files are not there or cannot be read: without it the
    gate would compare with nothing.
    """
    # Opening an SQLite file that is not there would make one, which takes seconds.
    database = Path(unquote(tracking_uri.removeprefix("sqlite:///")))
    absent = tracking_uri.startswith("sqlite:///") and not database.exists()
    version = None if absent else champion_of(connect(tracking_uri), model_name)
    if version is None:
        print(f"{model_name} has no champion yet")
        return ""
    source = version.source or ""
    try:
        location = _location(source, tracking_uri)
    except Exception as error:  # whatever the client of that storage raises, or lacks
        raise UserError(
            f"version {version.version} of {model_name} is the champion, but its files cannot be"
            f" read from {source or 'anywhere: the version has no source'} ({error}). Bring them"
            f" back there, or remove the alias {CHAMPION} of {model_name} on MLflow's page: runs"
            " then go on without a champion."
        ) from error
    print(f"version {version.version} of {model_name}: {source}")
    return location


def passed_run(tracking_uri: str, model_name: str, version: str) -> Path | None:
    """The directory of the run that a registered version came from, None where there is no such
    version or its gate did not pass.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    try:
        registered = client.get_model_version(model_name, version)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise
    if registered.tags.get("gate") != "passed":
        return None
    return Path(client.get_run(str(registered.run_id)).data.tags["run_directory"])


def logged_run(tracking_uri: str, model_name: str, version: str) -> str:
    """The id of the MLflow run that a registered version came from."""
    return str(connect(tracking_uri).get_model_version(model_name, version).run_id)


def fetch_run(
    tracking_uri: str, model_name: str, version: str, out: Path, names: Sequence[str]
) -> Path:
    """Download `names` of the directory of the run that a registered version came from to the
    folder `out`, which it returns; a name that the run does not have is left out.

    Raises UserError where there is no such version, or its files cannot be read.
    """
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    try:
        run_id = logged_run(tracking_uri, model_name, version)
        logged = {file.path for file in client.list_artifacts(run_id)}
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name in logged:
                client.download_artifacts(run_id, name, str(out))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"version {version} of {model_name}: its run cannot be read from MLflow at"
            f" {tracking_uri} ({str(error).splitlines()[0]}). Bring it back there, or train anew."
        ) from error
    return out


def fetch(location: str) -> Path:
    """The directory at `location`, downloaded first when it is remote. Raises UserError when that
    fails.
    """
    if (path := _local_path(location)) is not None:
        return path
    from mlflow.artifacts import download_artifacts

    folder = tempfile.mkdtemp(prefix="champion-")
    try:
        return Path(download_artifacts(artifact_uri=location, dst_path=folder))
    except Exception as error:  # whatever the client of that storage raises
        raise UserError(
            f"the champion's files cannot be downloaded from {location} ({error}). Run it again"
            " once they can."
        ) from error


def _location(source: str, tracking_uri: str) -> str:
    """Where the files of a version's `source` are, once its manifest was seen there. Raises
    FileNotFoundError where it is not, and what the storage's client raises.
    """
    from mtmh.retrieval.version import MANIFEST

    if (path := _local_path(source)) is not None:
        names, location = [file.name for file in path.iterdir()], str(path)
    else:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(source, tracking_uri=tracking_uri)
        names = [Path(file.path).name for file in repository.list_artifacts()]
        # `mlflow-artifacts:/1/..` means the tracking server, which `fetch` does not know.
        location = repository.artifact_uri
    if MANIFEST not in names:
        raise FileNotFoundError(f"no {MANIFEST} there")
    return location


def _local_path(location: str) -> Path | None:
    """The path that `location` is, plain or as file:; None where it has another scheme."""
    uri = urlsplit(location)
    if uri.scheme == "file":
        return Path(url2pathname(uri.path))
    return None if uri.scheme else Path(location)
