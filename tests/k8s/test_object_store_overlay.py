"""The overlay `object-store`: nothing shares a volume, and what its pods run does what it says over
a real S3 server.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.s3_server import reach, s3_server
from helpers.small_package import write_small_package

from k8s.check.render import KubeObject, render
from pipelines.kubeflow import OBJECT_STORE_KEYS
from serving.router.settings import Source
from serving.triton import bucket, store

K8S = Path(__file__).parents[2] / "k8s"


@pytest.fixture(scope="module")
def workloads() -> dict[str, KubeObject]:
    rendered = render(K8S / "overlays" / "object-store")
    # What the steps read of the Secret is what the pods do.
    assert set(rendered.secrets["object-store"]) == set(OBJECT_STORE_KEYS)
    assert not rendered.of("PersistentVolumeClaim")
    return {thing.name: thing for thing in rendered.workloads}


def named(containers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(container for container in containers if container["name"] == name)


def test_no_pod_mounts_a_claim_that_others_write(workloads: dict[str, KubeObject]) -> None:
    for thing in workloads.values():
        assert not [each for each in thing.pod["volumes"] if "persistentVolumeClaim" in each]
    assert [name for name, each in workloads.items() if "volumeClaimTemplates" in each.body["spec"]]


def test_the_router_follows_the_bucket_and_ships_its_log(workloads: dict[str, KubeObject]) -> None:
    command = named(workloads["router"].containers, "router")["command"]
    values = {"MTMH_BUCKET": "s3://mtmh/serving", "MTMH_DATA": "mine", "POD_NAME": "router-1"}
    words = [word.removeprefix("--set=") for word in command if word.startswith("--set=")]
    for name, value in values.items():
        words = [word.replace(f"$({name})", value) for word in words]
    settings = Source(K8S / "base" / "router.yaml", words).read()
    assert settings.bucket == "s3://mtmh/serving/mine"
    assert settings.log.bucket == "s3://mtmh/serving/mine/log/router-1"
    mounts = named(workloads["router"].containers, "router")["volumeMounts"]
    (mount,) = [each for each in mounts if each["mountPath"] == str(settings.store)]
    assert not mount.get("readOnly")


@pytest.mark.parametrize("versions", ["", "7 8"])
def test_tritons_pod_starts_with_the_versions_that_its_annotation_names(
    workloads: dict[str, KubeObject],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    versions: str,
) -> None:
    """The init container's own command, its volume a folder here."""
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    with s3_server(tmp_path / "s3") as keys:
        reach(monkeypatch, keys)
        for number in ("7", "8", "9"):
            package = write_small_package(tmp_path / number, number)
            bucket.install(package, "s3://bucket/serving/mine")
        shell, option, script = named(workloads["triton"].containers, "folders")["command"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {"MTMH_BUCKET": "s3://bucket/serving", "MTMH_DATA": "mine"}
        done = subprocess.run(
            [shell, option, script.replace("/volume", str(tmp_path / "volume"))],
            env={**os.environ, **variables, "MTMH_VERSIONS": versions, "PATH": path},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    place = tmp_path / "volume" / "runs" / "serving" / "mine"
    assert store.versions(place) == versions.split()
    for number in versions.split():
        store.verify(place, number)
