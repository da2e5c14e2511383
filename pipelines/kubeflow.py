"""A pipeline on Kubeflow: where its steps run, the pipeline as YAML, and the server that runs
it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kfp import kubernetes
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_task import PipelineTask

from mtmh.config import ClusterSettings, Config
from mtmh.errors import UserError
from pipelines.arguments import data_name, on_cluster

if TYPE_CHECKING:
    from kfp import Client

# in the image (k8s/images/router.Dockerfile)
FEATURE_STORE = "/etc/mtmh/feature_store.cluster.yaml"


def place_on(task: PipelineTask, cluster: ClusterSettings) -> None:
    """Ask for the resources, tolerations and node labels of `cluster`."""
    if cluster.gpus:
        task.set_accelerator_type(cluster.gpu_resource).set_accelerator_limit(cluster.gpus)
    if cluster.cpu:
        task.set_cpu_request(cluster.cpu).set_cpu_limit(cluster.cpu)
    if cluster.memory:
        task.set_memory_request(cluster.memory).set_memory_limit(cluster.memory)
    for key in cluster.tolerate:
        kubernetes.add_toleration(task, key=key, operator="Exists", effect="NoSchedule")
    for label, value in cluster.node_labels.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)


def mount_on(task: PipelineTask, cluster: ClusterSettings) -> None:
    """Mount the cluster's volume, where there is one."""
    if cluster.volume_claim:
        kubernetes.mount_pvc(task, pvc_name=cluster.volume_claim, mount_path=cluster.volume)


def reach_serving(features: PipelineTask, deploy: PipelineTask, cluster: ClusterSettings) -> None:
    """Let `features` fill the Redis that serves, and `deploy` ask the routers
    (k8s/base/network.yaml)."""
    if not cluster.namespace:
        return
    for task in (features, deploy):
        kubernetes.add_pod_label(task, "mtmh/step", task.name)
    features.set_env_variable("FEAST_FS_YAML_FILE_PATH", FEATURE_STORE)
    kubernetes.use_secret_as_env(features, "redis", {"connection": "REDIS_CONNECTION"})


def compile_pipeline(
    pipeline: BaseComponent, out: Path, defaults: dict[str, str | int] | None = None
) -> None:
    """Write `pipeline` as Kubeflow's IR to `out` (.yaml), with `defaults` for its parameters.

    The same code and settings give the same bytes. GPU limits stand in the first document, volumes,
    tolerations and node labels in the second.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"{out}: the compiled pipeline is a YAML file; write, say, {out.with_suffix('.yaml')}."
        )
    from kfp.compiler import Compiler

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(pipeline, str(out), pipeline_parameters=defaults)


@contextmanager
def server(host: str, cluster: ClusterSettings) -> Iterator["Client"]:
    """The Kubeflow Pipelines server at `host`; nothing on a laptop stands in for it.

    Raises UserError when `cluster` names no volume, or no server answers inside the context.
    """
    from kfp import Client

    from components.submission import answered_by

    if not cluster.volume_claim:
        raise UserError(
            "the steps need a volume: write --set"
            " cluster.volume_claim=NAME (a PersistentVolumeClaim)."
        )
    with answered_by(host):
        yield Client(host=host)


def submit(
    pipeline: BaseComponent, host: str, source: str, config: Config, tracking_uri: str
) -> str:
    """Start a run of the main pipeline on the server at `host` and return its id.

    Checkpoints and the served store go to the volume of `config.cluster`, what the run leaves to
    Kubeflow's artifact store. `source` is a path as the steps see it, or "synthetic". Raises
    UserError as `server` does.
    """
    with server(host, config.cluster) as client:
        arguments = on_cluster(config, tracking_uri, data_name(source)) | {"source": source}
        account = config.cluster.service_account or None
        started = client.create_run_from_pipeline_func(
            pipeline, arguments=arguments, service_account=account
        )
    return str(started.run_id)
