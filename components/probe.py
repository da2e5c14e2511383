"""What a step finds where it runs: the volume, buckets, MLflow, Redis, its account's rights.

`mtmh preflight` starts it in a pod as a step's (pipelines/preflight.py).
"""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtmh import object_store
from mtmh.errors import UserError

MARK = "::mtmh findings "  # the line of the log that the findings follow
SECONDS = 10.0  # that a server may take
# What the account of the steps needs (k8s/base/deploy-account.yaml): verb, group, resource, name.
KUBEFLOW = (
    ("get", "", "configmaps", "kfp-launcher"),
    ("get", "", "secrets", "mlpipeline-minio-artifact"),
    ("get", "", "pods", ""),
    ("create", "argoproj.io", "workflowtaskresults", ""),
    ("patch", "argoproj.io", "workflowtaskresults", ""),
)
ROLLOUT = (
    ("get", "apps", "deployments", "triton"),
    ("patch", "apps", "deployments", "triton"),
    ("list", "", "pods", ""),
    ("get", "", "configmaps", "router"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that a run needs: `problem` says what is wrong and what to do, empty where it is
    there."""

    need: str
    problem: str = ""


def probe(
    volume: str, tracking_uri: str, namespace: str, serves: bool, stores: Sequence[str] = ()
) -> Iterator[Finding]:
    """What a run needs, from inside a pod: `volume` is a folder (empty: none), `stores` are URLs of
    an object store, `namespace` the pod's own; `serves` is whether the run rolls out what passes.
    """
    if volume:
        yield _volume(Path(volume))
    yield from map(_store, stores)
    if tracking_uri:
        yield _mlflow(tracking_uri)
    if connection := os.environ.get("REDIS_CONNECTION"):
        yield _redis(connection)
    yield from _rights(namespace, [*KUBEFLOW, *(ROLLOUT if serves else ())])


def _volume(folder: Path) -> Finding:
    """That the steps' user can make folders on the volume."""
    trial = folder / f".probe-{uuid.uuid4().hex}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        owner = f"user {os.getuid()}, group {os.getgid()}"
        return Finding(
            f"volume at {folder}",
            f"{owner} cannot write there ({error.strerror}). Let them: chown {os.getuid()}:"
            f"{os.getgid()} on the volume's top folder, or a storage class that applies fsGroup.",
        )
    free = shutil.disk_usage(folder).free / 2**30
    return Finding(f"volume at {folder}, {free:,.0f} GiB free")


def _store(url: str) -> Finding:
    """That the steps' key may write, read and remove there, and that there is room."""
    name = f".probe-{uuid.uuid4().hex}"
    try:
        object_store.write(f"{url}/{name}", bytes(2**20))
        object_store.read(f"{url}/{name}")
        object_store.remove(url, [name])
    except UserError as error:
        return Finding(f"object store {url}", str(error).removeprefix(f"{url}: "))
    return Finding(f"object store {url}")


def _mlflow(tracking_uri: str) -> Finding:
    import urllib3

    need = f"MLflow at {tracking_uri}"
    if not tracking_uri.startswith(("http://", "https://")):
        return Finding(need, "it is no server's URL, and no other pod would see its files.")
    try:
        answer = urllib3.request(
            "GET", f"{tracking_uri.rstrip('/')}/health", timeout=SECONDS, retries=False
        )
    except urllib3.exceptions.HTTPError as error:
        return Finding(
            need, f"no answer: {error}. Is its Service in this cluster, and the port its own?"
        )
    if answer.status != 200:
        return Finding(need, f"{answer.status} of /health: this is no MLflow server.")
    return Finding(need)


def _redis(connection: str) -> Finding:
    from feast.infra.online_stores.redis import RedisOnlineStore
    from redis import Redis
    from redis.exceptions import RedisError

    # As Feast reads it: host:port,password=...,ssl=True.
    nodes, options = RedisOnlineStore._parse_connection_string(connection)
    need = f"Redis at {nodes[0]['host']}:{nodes[0]['port']}"
    try:
        with Redis(**nodes[0], **options, socket_timeout=SECONDS) as server:
            server.ping()
    except RedisError as error:
        return Finding(need, f"{error}. Is the Secret `redis` its password's?")
    return Finding(need)


def _rights(namespace: str, wanted: list[tuple[str, str, str, str]]) -> Iterator[Finding]:
    """One finding for what the account may, and one for each right that it lacks."""
    from kubernetes import client

    from serving.cluster.pods import connected

    reviews = client.AuthorizationV1Api(connected())
    lacking = []
    for verb, group, resource, name in wanted:
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        body = {"spec": {"resourceAttributes": {**attributes, "name": name}}}
        if not reviews.create_self_subject_access_review(body).status.allowed:
            lacking.append(f"{verb} {resource}.{group}".rstrip(".") + (f" {name}" if name else ""))
    problem = f"it may not {', '.join(lacking)}: kubectl apply -f k8s/base/deploy-account.yaml"
    yield Finding("rights of the steps' account", problem if lacking else "")


def main(given: str) -> None:
    """Print the findings for the arguments of `probe`, as JSON, after MARK."""
    arguments: dict[str, Any] = json.loads(given)
    findings = [asdict(finding) for finding in probe(**arguments)]
    print(f"{MARK}{json.dumps(findings)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
