"""A pipeline on Kubeflow: where its steps run, the pipeline as YAML, and the server that runs
it."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp import kubernetes
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_task import PipelineTask

from components import IMAGE, IMAGE_VARIABLE, states
from components.connection import Connection, connected
from components.submission import Submission, start
from mtmh.config import ClusterSettings, Config
from mtmh.data.prepare import SYNTHETIC
from mtmh.errors import UserError
from mtmh.object_store import is_url
from pipelines.arguments import data_name, on_cluster

if TYPE_CHECKING:
    import kfp_server_api as api

# in the image (k8s/images/pipeline.Dockerfile)
FEATURE_STORE = "/etc/mtmh/feature_store.cluster.yaml"
# Keys of the two Secrets, and the variables that every client of such a server reads.
OBJECT_STORE_KEYS = {
    name: name
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_DEFAULT_REGION",
    )
}
MLFLOW_KEYS = {
    name: f"MLFLOW_TRACKING_{name.upper()}" for name in ("username", "password", "token")
}
# What a step downloads or compiles lies in these folders of the volume, for the next run.
CACHES = {"HF_HOME": "huggingface", "NUMBA_CACHE_DIR": "numba"}


def allot(task: PipelineTask, cluster: ClusterSettings) -> None:
    """Give `task` what its line of the table `cluster.steps` says: what is kept free for it, on
    which nodes, how often it is tried and how long it may take."""
    line = cluster.steps[task.name]
    task.set_cpu_request(line.cpu)
    task.set_memory_request(line.memory).set_memory_limit(line.memory)
    if line.gpus:
        task.set_accelerator_type(cluster.gpu_resource).set_accelerator_limit(line.gpus)
    if line.retries:
        task.set_retry(num_retries=line.retries, backoff_duration="30s")
    kubernetes.set_timeout(task, line.deadline)
    for key in line.tolerate:
        kubernetes.add_toleration(task, key=key, operator="Exists", effect="NoSchedule")
    for label, value in line.node_labels.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)


def equip(task: PipelineTask, cluster: ClusterSettings) -> None:
    """Give `task` what a step has on a cluster: its line of the table, the volume and the keys of
    object store and MLflow, where there are any, and the name of the image that it runs in, which a
    pipeline that is compiled there asks for again."""
    allot(task, cluster)
    if cluster.volume_claim:
        kubernetes.mount_pvc(task, pvc_name=cluster.volume_claim, mount_path=cluster.volume)
        for variable, folder in CACHES.items():
            task.set_env_variable(variable, f"{cluster.volume}/cache/{folder}")
    # A key may be missing: who has a token needs no password, Amazon's own store no endpoint.
    for secret, variables in (
        (cluster.object_secret, OBJECT_STORE_KEYS),
        (cluster.mlflow_secret, MLFLOW_KEYS),
    ):
        if secret:
            kubernetes.use_secret_as_env(task, secret, variables, optional=True)
    task.set_env_variable(IMAGE_VARIABLE, IMAGE)
    # A node keeps what a tag named once, while the tag may move; a digest names the same for ever.
    if "/" in IMAGE and "@" not in IMAGE and not cluster.local_images:
        kubernetes.set_image_pull_policy(task, "Always")
    if cluster.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [cluster.image_pull_secret])


def reach_hub(content: PipelineTask, cluster: ClusterSettings) -> None:
    """Let `content` download gated backbones with the token of the Secret `huggingface`, where the
    namespace has one."""
    if cluster.volume_claim:
        kubernetes.use_secret_as_env(content, "huggingface", {"token": "HF_TOKEN"}, optional=True)


def keep_state(task: PipelineTask, cluster: ClusterSettings) -> None:
    """Let `task` keep what became of it on the volume, under the id that Kubeflow gives every pod
    of a run: the step `finish` reads it."""
    if folder := states_folder(cluster):
        task.set_env_variable(states.FOLDER, folder)
        kubernetes.use_field_path_as_env(task, states.RUN, "metadata.labels['pipeline/runid']")


def states_folder(cluster: ClusterSettings) -> str:
    """Where the steps keep what became of them; empty where they share no volume."""
    return f"{cluster.volume}/scratch/states" if cluster.volume_claim else ""


def reach_kubeflow(task: PipelineTask, cluster: ClusterSettings) -> None:
    """Let `task` start runs where Kubeflow asks who does: the label is that of the PodDefault by
    which it gives a pod its token."""
    if cluster.kubeflow_namespace:
        kubernetes.add_pod_label(task, "access-ml-pipeline", "true")


def reach_serving(histories: PipelineTask, deploy: PipelineTask, cluster: ClusterSettings) -> None:
    """Let `histories` fill the Redis that serves; let `deploy` ask the routers, and empty Redis of
    retired versions (k8s/base/network.yaml)."""
    if not cluster.namespace:
        return
    for task in (histories, deploy):
        kubernetes.add_pod_label(task, "mtmh/step", task.name)
        task.set_env_variable("FEAST_FS_YAML_FILE_PATH", FEATURE_STORE)
        kubernetes.use_secret_as_env(task, "redis", {"connection": "REDIS_CONNECTION"})
    # A registry in SQL for other readers, where the operator has made one.
    shared = {"url": "FEAST_REGISTRY"}
    kubernetes.use_secret_as_env(histories, "feast-registry", shared, optional=True)


def compile_pipeline(
    pipeline: BaseComponent, out: Path, defaults: dict[str, str | int] | None = None
) -> None:
    """Write `pipeline` as Kubeflow's IR to `out` (.yaml), with `defaults` for its parameters.

    The same code and settings give the same bytes. What a step asks for and how often it is tried
    stand in the first document; volumes, deadlines, tolerations and node labels in the second.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"{out}: the compiled pipeline is a YAML file; write, say, {out.with_suffix('.yaml')}."
        )
    from kfp.compiler import Compiler

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(pipeline, str(out), pipeline_parameters=defaults)


@contextmanager
def server(
    connection: Connection, cluster: ClusterSettings, locations: Iterable[str]
) -> Iterator["api.ApiClient"]:
    """A client of a Kubeflow Pipelines server; nothing on a laptop stands in for it. `locations`
    are what the steps read and write beside their artifacts: paths or URLs.

    Raises UserError when one of them is a path and `cluster` names no volume, when no node could
    pull the image, and as `connected` does.
    """
    paths = [path for path in locations if path != SYNTHETIC and not is_url(path)]
    if paths and not cluster.volume_claim:
        raise UserError(
            f"the steps need a volume for {paths[0]}: write --set cluster.volume_claim=NAME (a"
            " PersistentVolumeClaim), or keep all in an object store: --data, cluster.scratch and"
            " cluster.store with URLs (s3://..), its keys in the Secret cluster.object_secret."
        )
    # A name without a registry is Docker Hub's own, where nothing of ours lies.
    if "/" not in IMAGE and not cluster.local_images:
        raise UserError(
            f"the steps would run in the image {IMAGE}, which names no registry, so that no node"
            f" can pull it. Set the variable {IMAGE_VARIABLE} to the image that you pushed, such as"
            f" registry.example.com/{IMAGE}; where every node has it already (kind, minikube),"
            " write --set cluster.local_images=true."
        )
    with connected(connection, cluster.kubeflow_namespace) as client:
        yield client


def uploaded(
    client: "api.ApiClient",
    pipeline: BaseComponent,
    name: str,
    host: str,
    config: Config,
    defaults: dict[str, str | int] | None = None,
) -> Submission:
    """Upload `pipeline`, with `defaults` for its parameters, as a new version of the one called
    `name`; what starts runs of it from wherever the server is reached at `host`."""
    import kfp_server_api as api

    pipelines, namespace = api.PipelineServiceApi(client), _namespace(config.cluster)
    listed = pipelines.pipeline_service_list_pipelines(filter=_called(name), **namespace).pipelines
    parent = (listed or [None])[0] or pipelines.pipeline_service_create_pipeline(
        pipeline=api.V2beta1Pipeline(display_name=name, **namespace)
    )
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_pipeline(pipeline, package, defaults)
        version = api.PipelineUploadServiceApi(client).upload_pipeline_version(
            str(package),
            name=f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
            pipelineid=parent.pipeline_id,
        )
    return Submission(
        host,
        parent.pipeline_id,
        version.pipeline_version_id,
        _experiment_id(client, config.cluster),
        config.cluster.service_account,
        config.model_dump(mode="json"),
    )


def _experiment_id(client: "api.ApiClient", cluster: ClusterSettings) -> str:
    """The id of the experiment that holds the runs, made where it is not there."""
    import kfp_server_api as api

    experiments, namespace = api.ExperimentServiceApi(client), _namespace(cluster)
    listed = experiments.experiment_service_list_experiments(
        filter=_called(cluster.experiment), **namespace
    ).experiments
    experiment = (listed or [None])[0] or experiments.experiment_service_create_experiment(
        experiment=api.V2beta1Experiment(display_name=cluster.experiment, **namespace)
    )
    return str(experiment.experiment_id)


def _namespace(cluster: ClusterSettings) -> dict[str, str]:
    """The namespace as calls take it; a server of one user is not to be given any."""
    return {"namespace": cluster.kubeflow_namespace} if cluster.kubeflow_namespace else {}


def _called(name: str) -> str:
    """The filter of a list for what is called `name`."""
    equal = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [equal]})


def repeat(
    client: "api.ApiClient",
    submission: Submission,
    name: str,
    cron: str,
    parameters: dict[str, Any],
) -> str:
    """Let the server start runs again and again (`cron`: six fields, seconds first, in UTC), in
    place of the recurring runs of that name; the id of the new one."""
    import kfp_server_api as api

    service = api.RecurringRunServiceApi(client)
    before = service.recurring_run_service_list_recurring_runs(
        experiment_id=submission.experiment_id, filter=_called(name), page_size=100
    ).recurring_runs
    # One at a time, and none for the times at which the server was down.
    created = service.recurring_run_service_create_recurring_run(
        recurring_run=api.V2beta1RecurringRun(
            **submission.request(name, parameters),
            trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
            mode=api.RecurringRunMode.ENABLE,
            max_concurrency="1",
            no_catchup=True,
        )
    )
    # The old ones go last: where the server refuses the new one, they go on.
    for old in before or []:
        service.recurring_run_service_delete_recurring_run(old.recurring_run_id)
    return str(created.recurring_run_id)


def submit(
    pipeline: BaseComponent,
    connection: Connection,
    source: str,
    config: Config,
    tracking_uri: str,
    name: str = "",
) -> str:
    """Start a run of the main pipeline, called `name` (by default by data and time), and return its
    id.

    Checkpoints and the served store go to the volume of `config.cluster`, what the run leaves to
    Kubeflow's artifact store. `source` is a path as the steps see it, or "synthetic". Raises
    UserError as `server` does.
    """
    defaults = on_cluster(config, tracking_uri, data_name(source))
    called = str(defaults["model_name"])
    locations = (source, str(defaults["scratch"]), str(defaults["store"]))
    with server(connection, config.cluster, locations) as client:
        parameters = {"source": source}
        submission = uploaded(client, pipeline, called, connection.host, config, defaults)
        named = name or f"{called} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        return start(client, submission, named, parameters)


def schedule(
    pipeline: BaseComponent,
    connection: Connection,
    source: str,
    config: Config,
    tracking_uri: str,
    cron: str,
    name: str = "",
) -> str:
    """Let the server run the main pipeline again and again, as `submit` starts it once and in place
    of the schedule of the same name; returns the id of the recurring run."""
    defaults = on_cluster(config, tracking_uri, data_name(source))
    called = str(defaults["model_name"])
    locations = (source, str(defaults["scratch"]), str(defaults["store"]))
    with server(connection, config.cluster, locations) as client:
        parameters = {"source": source}
        submission = uploaded(client, pipeline, called, connection.host, config, defaults)
        return repeat(client, submission, name or called, cron, parameters)
