"""What every pod must have: a pinned image, no root, resources, probes on ports that are there,
time to end."""

import re
from collections.abc import Iterator

from k8s.check.render import CRON_JOB, KubeObject, Rendered

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# a limit of cpu only makes latency worse
NEEDED = (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))
PINNED = re.compile(r"[^@\s]+:[\w][\w.-]*(@sha256:[0-9a-f]{64})?|[^@\s]+@sha256:[0-9a-f]{64}")
REFERENCE = re.compile(r"\$\((\w+)\)")
HISTORY = ("successfulJobsHistoryLimit", "failedJobsHistoryLimit")
MAXMEMORY = re.compile(r"^maxmemory (\d+(?:mb|gb))$", re.MULTILINE)
MEBIBYTES = {"Mi": 1, "Gi": 1024, "mb": 1, "gb": 1024}  # as Kubernetes and as Redis write them
HOST = ("hostNetwork", "hostPID", "hostIPC")


def images(rendered: Rendered) -> Iterator[str]:
    """Images are pinned by a tag other than latest, or by a digest."""
    for thing in rendered.with_pods:
        for container in thing.containers:
            image = container.get("image", "")
            name = image.rpartition("/")[2]  # a registry's port is no tag
            if not PINNED.fullmatch(name) or name.endswith(":latest"):
                yield thing.finding(
                    f"containers[{container['name']}].image",
                    f"{image!r} is not pinned to a version",
                )


def not_root(rendered: Rendered) -> Iterator[str]:
    """Nobody is root, gains rights, keeps capabilities, shares the node's namespaces or writes the
    image's files."""
    for thing in rendered.with_pods:
        pod = thing.pod.get("securityContext", {})
        for container in thing.containers:
            container_context = container.get("securityContext", {})
            # A container's own context goes over that of its pod.
            effective = {**pod, **container_context}
            field = f"containers[{container['name']}].securityContext"
            if effective.get("runAsNonRoot") is not True or effective.get("runAsUser", 0) == 0:
                yield thing.finding(
                    field, "runAsNonRoot must be true and runAsUser a number other than 0"
                )
            if container_context.get(
                "allowPrivilegeEscalation"
            ) is not False or container_context.get("privileged"):
                yield thing.finding(
                    field, "allowPrivilegeEscalation must be false, privileged absent"
                )
            if container_context.get("capabilities", {}).get("drop") != ["ALL"]:
                yield thing.finding(field, "capabilities.drop must be [ALL]")
            if container_context.get("readOnlyRootFilesystem") is not True:
                yield thing.finding(
                    field, "readOnlyRootFilesystem must be true; mount an emptyDir where it writes"
                )
            if effective.get("seccompProfile", {}).get("type") not in (
                "RuntimeDefault",
                "Localhost",
            ):
                yield thing.finding(field, "seccompProfile.type must be RuntimeDefault")


def apart_from_the_node(rendered: Rendered) -> Iterator[str]:
    """Pods hold nothing of the node, and a token of the cluster only under an account of their
    own."""
    for thing in rendered.with_pods:
        if (
            thing.pod.get("automountServiceAccountToken") is not False
            and "serviceAccountName" not in thing.pod
        ):
            yield thing.finding(
                "automountServiceAccountToken", "must be false: this pod has no account of its own"
            )
        for field in HOST:
            if thing.pod.get(field):
                yield thing.finding(field, "must be absent")
        for volume in thing.pod.get("volumes", []):
            if "hostPath" in volume:
                yield thing.finding(
                    f"volumes[{volume['name']}]", "hostPath is a file of the node: use a claim"
                )


def no_sidecars(rendered: Rendered) -> Iterator[str]:
    """No pod gets Istio's proxy, as a Kubeflow profile's namespace would give it: the policies do
    not let it speak to its own, and a Job would never end beside it."""
    for thing in rendered.with_pods:
        if thing.labels.get("sidecar.istio.io/inject") != "false":
            yield thing.finding(
                "template.metadata.labels", 'sidecar.istio.io/inject must be "false"'
            )


def resources(rendered: Rendered) -> Iterator[str]:
    """Containers ask for cpu and memory and have a limit of memory; a GPU's node is tolerated and
    chosen."""
    for thing in rendered.with_pods:
        for container in thing.containers:
            declared = container.get("resources", {})
            field = f"containers[{container['name']}].resources"
            for section, name in NEEDED:
                if name not in declared.get(section, {}):
                    yield thing.finding(field, f"{section}.{name} is not set")
            if "nvidia.com/gpu" in declared.get("limits", {}):
                # GPU nodes refuse pods without the toleration; other nodes have no GPU to give.
                tolerated = {
                    toleration.get("key") for toleration in thing.pod.get("tolerations", [])
                }
                if "nvidia.com/gpu" not in tolerated or not thing.pod.get("nodeSelector"):
                    yield thing.finding(
                        field,
                        "asks for a GPU without the toleration nvidia.com/gpu and a nodeSelector",
                    )


def redis_headroom(rendered: Rendered) -> Iterator[str]:
    """A Redis may fill half of its container's memory: while it rewrites its log it forks, and what
    changes meanwhile is there twice."""
    for thing in rendered.workloads:
        for volume in thing.pod.get("volumes", []):
            mounted = rendered.find("ConfigMap", volume.get("configMap", {}).get("name", ""))
            text = (mounted.body.get("data", {}) if mounted else {}).get("redis.conf", "")
            for most in MAXMEMORY.findall(text):
                for container in thing.containers:
                    limit = container.get("resources", {}).get("limits", {}).get("memory", "0Mi")
                    if _mebibytes(limit) < 2 * _mebibytes(most):
                        yield thing.finding(
                            f"containers[{container['name']}].resources",
                            f"limits.memory {limit} is less than twice maxmemory {most}",
                        )


def probes(rendered: Rendered) -> Iterator[str]:
    """Every container has the three probes, on ports that it has."""
    for thing in rendered.workloads:
        for container in thing.pod["containers"]:
            for name in PROBES:
                field = f"containers[{container['name']}].{name}"
                probe = container.get(name)
                if probe is None:
                    yield thing.finding(field, "is not set")
                    continue
                for way in ("httpGet", "tcpSocket", "grpc"):
                    if way in probe and thing.port(probe[way]["port"]) is None:
                        yield thing.finding(field, f"there is no port {probe[way]['port']}")


def mounts(rendered: Rendered) -> Iterator[str]:
    """Every mount has its volume, every volume a mount, and no two mounts of a container one
    path."""
    for thing in rendered.with_pods:
        # A StatefulSet's claim templates become volumes of its pods.
        claims = thing.body["spec"].get("volumeClaimTemplates", [])
        names = [volume["name"] for volume in thing.pod.get("volumes", [])]
        names += [claim["metadata"]["name"] for claim in claims]
        used = set()
        for container in thing.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            for mount in container.get("volumeMounts", []):
                used.add(mount["name"])
                field = f"containers[{container['name']}].volumeMounts[{mount['mountPath']}]"
                if mount["name"] not in names:
                    yield thing.finding(field, f"there is no volume {mount['name']}")
                # The API server refuses it, but only when the files are applied.
                if paths.count(mount["mountPath"]) > 1:
                    yield thing.finding(field, "is mounted twice")
        # Either a leftover, or a mount that somebody forgot.
        for name in sorted(set(names) - used):
            yield thing.finding(f"volumes[{name}]", "is mounted nowhere")


def expansions(rendered: Rendered) -> Iterator[str]:
    """$(NAME) is replaced only where NAME stands earlier in the same container's env."""
    for thing in rendered.with_pods:
        for container in thing.containers:
            defined: set[str] = set()
            for variable in container.get("env", []):
                field = f"containers[{container['name']}].env[{variable['name']}]"
                yield from _unknown(thing, field, variable.get("value", ""), defined)
                defined.add(variable["name"])
            for mount in container.get("volumeMounts", []):
                volume = f"containers[{container['name']}].volumeMounts[{mount['mountPath']}]"
                field = f"{volume}.subPathExpr"
                yield from _unknown(thing, field, mount.get("subPathExpr", ""), defined)


def _unknown(thing: KubeObject, field: str, text: str, defined: set[str]) -> Iterator[str]:
    for name in REFERENCE.findall(text):
        if name not in defined:
            yield thing.finding(field, f"$({name}) stands for no variable before it")


def ends(rendered: Rendered) -> Iterator[str]:
    """A pod that waits before it ends has time left to end."""
    for thing in rendered.workloads:
        # 30 s are Kubernetes' default.
        grace = thing.pod.get("terminationGracePeriodSeconds", 30)
        for container in thing.pod["containers"]:
            command = (
                container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
            )
            if command[:1] == ["sleep"] and int(command[1]) + 20 > grace:
                message = f"{grace} s leave less than 20 after preStop's {command[1]}"
                yield thing.finding("terminationGracePeriodSeconds", message)


def jobs(rendered: Rendered) -> Iterator[str]:
    """A job runs alone, for a bounded time, and is not tried for ever; one that the clock starts
    leaves no pile of jobs, nor starts long after its time."""
    for cron_job in rendered.of(CRON_JOB):
        spec = cron_job.body["spec"]
        job = spec["jobTemplate"]["spec"]
        if spec.get("concurrencyPolicy") != "Forbid":
            yield cron_job.finding("spec.concurrencyPolicy", "must be Forbid")
        for name in ("activeDeadlineSeconds", "backoffLimit"):
            if name not in job:
                yield cron_job.finding(f"spec.jobTemplate.spec.{name}", "is not set")
        if cron_job.pod.get("restartPolicy") != "Never":
            message = "must be Never: the pod that failed tells why"
            yield cron_job.finding("spec.jobTemplate.spec.template.spec.restartPolicy", message)
        if spec.get("suspend"):
            continue
        for name in ("startingDeadlineSeconds", *HISTORY):
            if name not in spec:
                yield cron_job.finding(f"spec.{name}", "is not set")


def _mebibytes(written: str) -> int:
    return int(written[:-2]) * MEBIBYTES[written[-2:]]


CHECKS = (
    images,
    not_root,
    apart_from_the_node,
    no_sidecars,
    resources,
    redis_headroom,
    probes,
    mounts,
    expansions,
    ends,
    jobs,
)
