"""A run of the main pipeline started from inside a step, on the server that holds it compiled.

A step cannot import `kfp.Client`: Kubeflow hides there what makes pipelines. What is used is the
client below it.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mtmh.config import Config
from mtmh.data.prepare import fingerprint
from mtmh.errors import UserError
from mtmh.version_hash import code_version


@dataclass(frozen=True)
class Submission:
    """What a step needs to start runs of an uploaded pipeline whose parameters have their
    defaults."""

    host: str  # URL of the server, as the steps reach it
    pipeline_id: str
    experiment_id: str
    service_account: str
    config: dict[str, Any]  # the run's settings, as in the pipeline's defaults

    def to_json(self) -> str:
        """All fields as one JSON text, as a pipeline's parameter takes them."""
        return json.dumps(asdict(self))


def identity(source: str, config: Config) -> dict[str, str]:
    """What tells a run over the data at `source` from others: source, fingerprint, code_version and
    run_id.

    The id is UTC time and a short hash of the rest. Raises UserError when there is no data at
    `source`.
    """
    data, code = fingerprint(source, config.data, config.seed), code_version()
    rest = json.dumps([data, code, config.model_dump_json()])
    key = hashlib.sha256(rest.encode()).hexdigest()[:8]
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{key}"
    return {"source": source, "fingerprint": data, "code_version": code, "run_id": run_id}


@contextmanager
def answered_by(host: str) -> Iterator[None]:
    """Calls of the Kubeflow Pipelines server at `host`: that nobody answers there is a
    UserError."""
    from urllib3.exceptions import HTTPError

    try:
        yield
    except HTTPError as error:
        raise UserError(f"no Kubeflow Pipelines server answers at {host}: {error}") from None


def submit(submission: Submission, source: str) -> str:
    """Start a run over the data at `source`, a path that this step sees too; its id on the server.

    Raises UserError when no server answers or it takes no such run.
    """
    import kfp_server_api as api

    arguments = identity(source, Config.model_validate(submission.config))
    version = api.V2beta1PipelineVersionReference(pipeline_id=submission.pipeline_id)
    # All other parameters have their defaults: the settings that were uploaded.
    run = api.V2beta1Run(
        display_name=arguments["run_id"],
        experiment_id=submission.experiment_id,
        pipeline_version_reference=version,
        runtime_config=api.V2beta1RuntimeConfig(parameters=arguments),
        service_account=submission.service_account or None,
    )
    server = api.Configuration(host=submission.host.rstrip("/"))
    try:
        with answered_by(submission.host), api.ApiClient(server) as client:
            return str(api.RunServiceApi(client).run_service_create_run(run=run).run_id)
    except api.ApiException as error:
        reason = f"{error.status} {error.reason}: {error.body}"
        message = f"the Kubeflow Pipelines server at {submission.host} takes no run: {reason}"
        raise UserError(message) from None
