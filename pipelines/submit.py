"""Hand the pipeline to a Kubeflow Pipelines server. It needs one: nothing on a laptop stands in for it."""

from pathlib import Path

from mtmh.config import Config
from mtmh.errors import UserError
from pipelines.arguments import data_name, of_run


def submit(host: str, source: str, config: Config, tracking_uri: str) -> str:
    """Start a run of the pipeline on the server at `host` and return its id.

    Checkpoints, runs and the champions' links go to the volume of `config.cluster`. `source` is a path as the steps see
    it, and must be readable here too (its fingerprint is taken here), unless it is "synthetic".

    Raises UserError when the configuration names no volume, or no server answers.
    """
    from kfp import Client
    from urllib3.exceptions import HTTPError

    from pipelines.main import define

    if not config.cluster.volume_claim:
        raise UserError("the steps need a volume: write --set cluster.volume_claim=NAME (a PersistentVolumeClaim).")
    volume = Path(config.cluster.volume)
    arguments = of_run(source, config, tracking_uri, volume / "runs", volume / "scratch", data_name(source))
    try:
        account = config.cluster.service_account or None
        started = Client(host=host).create_run_from_pipeline_func(
            define(config.cluster), arguments=arguments, service_account=account
        )
    except HTTPError as error:
        raise UserError(f"no Kubeflow Pipelines server answers at {host}: {error}") from None
    return str(started.run_id)
