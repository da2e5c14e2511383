"""What only a cluster can give a step: GPUs, memory, nodes, a shared volume, the pods that serve."""

from kfp import kubernetes
from kfp.dsl.pipeline_task import PipelineTask

from mtmh.config import ClusterSettings

FEATURE_STORE = "/etc/mtmh/feature_store.cluster.yaml"  # in the image (k8s/images/router.Dockerfile)


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


def reach_serving(tasks: dict[str, PipelineTask], cluster: ClusterSettings) -> None:
    """Let the step features fill the Redis that serves, and the step deploy ask the routers (k8s/base/network.yaml)."""
    if not cluster.namespace:
        return
    for name in ("features", "deploy"):
        kubernetes.add_pod_label(tasks[name], "mtmh/step", name)
    tasks["features"].set_env_variable("FEAST_FS_YAML_FILE_PATH", FEATURE_STORE)
    kubernetes.use_secret_as_env(tasks["features"], "redis", {"connection": "REDIS_CONNECTION"})
