"""Packages of a few bytes, and what rolls them out on the stand-in of a cluster."""

import hashlib
import json
from pathlib import Path

from kubernetes import client

from helpers.cluster_api import StandIn
from serving.cluster.pods import Cluster
from serving.triton.store import promote


def write_package(place: Path, version: str) -> None:
    """A package as the store takes it, with models that no Triton loads."""
    names = [
        f"{kind}_{version}"
        for kind in ("engagement", "relevance", "retrieve_engagement", "retrieve_relevance")
    ]
    sums = {}
    for name in names:
        for file in (f"models/{name}/config.pbtxt", f"models/{name}/{version}/model.py"):
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(f'name: "{name}"\n')
            sums[file] = hashlib.sha256((place / file).read_bytes()).hexdigest()
    (place / "manifest.json").write_text(
        json.dumps({"version": version, "models": names, "sha256": sums})
    )


def cluster(api: StandIn, seconds: float = 20.0) -> Cluster:
    """Its namespace, as a rollout sees it."""
    configuration = client.Configuration(host=api.url)
    configuration.retries = False
    return Cluster(client.ApiClient(configuration), "mtmh", seconds, pause=0.01)


def serve(api: StandIn, told: str) -> None:
    """As if the last of the versions `told` had been rolled out before."""
    api.tell(told)
    api.settle()
    promote(api.store, told.split()[-1])
    for router in api.routers:
        router.serving = told.split()[-1]
    api.history.clear()


def kubeconfig(path: Path, url: str) -> Path:
    """A file that leads kubectl's clients to the API at `url`."""
    contexts = [{"name": "test", "context": {"cluster": "test", "user": "test"}}]
    whole = {
        "current-context": "test",
        "contexts": contexts,
        "users": [{"name": "test", "user": {}}],
    }
    whole |= {"clusters": [{"name": "test", "cluster": {"server": url}}]}
    path.write_text(json.dumps(whole))
    return path
