"""A run of an uploaded pipeline, started from a laptop or from inside a step."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.connection import Connection, connected
from mtmh.config import Config

if TYPE_CHECKING:
    import kfp_server_api as api


@dataclass(frozen=True)
class Submission:
    """What it takes to start runs of an uploaded version of a pipeline whose parameters have their
    defaults. No token: a step has its own."""

    host: str  # URL of the server, as whoever starts runs reaches it
    pipeline_id: str
    version_id: str
    experiment_id: str
    service_account: str
    config: dict[str, Any]  # the run's settings, as in the pipeline's defaults

    def to_json(self) -> str:
        """All fields as one JSON text, as a pipeline's parameter takes them."""
        return json.dumps(asdict(self))

    def request(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """What the server is told of a run, and of a recurring one alike: its `name`, where it
        belongs, and `parameters` over the uploaded defaults."""
        import kfp_server_api as api

        return {
            "display_name": name,
            "experiment_id": self.experiment_id,
            "pipeline_version_reference": api.V2beta1PipelineVersionReference(
                pipeline_id=self.pipeline_id, pipeline_version_id=self.version_id
            ),
            "runtime_config": api.V2beta1RuntimeConfig(parameters=parameters),
            "service_account": self.service_account or None,
        }


def start(
    client: "api.ApiClient", submission: Submission, name: str, parameters: dict[str, Any]
) -> str:
    """Start a run called `name`, with `parameters` over the uploaded defaults; its id on the
    server."""
    import kfp_server_api as api

    run = api.V2beta1Run(**submission.request(name, parameters))
    return str(api.RunServiceApi(client).run_service_create_run(run=run).run_id)


def submit(submission: Submission, source: str) -> str:
    """Start a run over the data at `source`, a path that this step sees too; its id on the server.

    Raises UserError when no server answers or it takes no such run.
    """
    config = Config.model_validate(submission.config)
    name = f"{Path(source).name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    with connected(Connection(submission.host), config.cluster.kubeflow_namespace) as client:
        return start(client, submission, name, {"source": source})
