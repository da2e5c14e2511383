"""compose.yaml beside the cluster's files: the same images, commands and environment, no open port
more.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import IMAGE

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
MANIFESTS = {
    "redis": K8S / "base" / "redis.yaml",
    "triton": K8S / "base" / "triton.yaml",
    "router": K8S / "base" / "router-deployment.yaml",
}
IMAGES = {
    "mtmh-python": "pipeline.Dockerfile",
    "mtmh-router": "router.Dockerfile",
    "mtmh-triton": "triton.Dockerfile",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return content


def pod(service: str) -> dict[str, Any]:
    workloads = yaml.safe_load_all(MANIFESTS[service].read_text())
    (spec,) = [body["spec"]["template"]["spec"] for body in workloads if "template" in body["spec"]]
    return dict(spec)


def container(service: str) -> dict[str, Any]:
    return dict(pod(service)["containers"][0])


def tagged(image: str) -> str:
    """The image as the overlay for CPU nodes names it."""
    overlay = yaml.safe_load((K8S / "overlays" / "cpu" / "kustomization.yaml").read_text())
    tags = {entry["name"]: entry["newTag"] for entry in overlay["images"]}
    return f"{image}:{tags[image]}" if image in tags else image


def test_the_images_are_those_of_the_cluster(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in MANIFESTS:
        assert services[name]["image"] == tagged(container(name)["image"])
    for name in ("pipeline", "permissions"):
        assert services[name]["image"] == IMAGE
    for service in services.values():
        if "build" in service:
            dockerfile = IMAGES[service["image"].partition(":")[0]]
            assert service["build"] == {"context": ".", "dockerfile": f"k8s/images/{dockerfile}"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_service_runs_what_its_pod_runs(compose: dict[str, Any], name: str) -> None:
    """A pod's `command` replaces an entry point, its `args` do not; Redis' image hands any command
    on.
    """
    service = compose["services"][name]
    written = container(name)
    assert "entrypoint" not in service  # Triton's closes the management (k8s/images/triton.sh)
    command = written.get("command", written.get("args"))
    assert [part.replace("$$", "$") for part in service["command"]] == command


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_service_has_its_pods_environment(compose: dict[str, Any], name: str) -> None:
    environment = compose["services"][name]["environment"]
    written = {variable["name"]: variable.get("value") for variable in container(name)["env"]}
    assert set(environment) <= set(written)
    # The rest chooses folders on the cluster's volume, or is part of another variable.
    assert set(written) - set(environment) <= {"MTMH_DATA", "POD_NAME", "REDIS_PASSWORD"}
    for variable, value in environment.items():
        if written[variable] is not None:
            plain = re.sub(r"\$\{(\w+)(:[^}]*)?\}", r"$(\1)", value)
            assert plain == written[variable]


def test_the_pipeline_fills_the_redis_that_the_router_reads(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["pipeline"]["environment"] == services["router"]["environment"]
    (command,) = services["pipeline"]["command"][2:]
    store = next(mount for mount in services["pipeline"]["volumes"] if mount.startswith("store:"))
    assert f"{store.removeprefix('store:')}/champion" in command


def test_only_the_routers_ports_are_open_and_to_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port["containerPort"] for port in container("router")["ports"]]
    assert compose["services"]["router"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
    for name, service in compose["services"].items():
        if name != "router":
            assert "ports" not in service
            assert service.get("network_mode") == "none" or service["networks"] == ["behind"]
    assert compose["networks"]["behind"] == {"internal": True}


def test_nobody_has_more_rights_than_a_pod(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        if name == "permissions":  # gives new volumes to the others, and ends
            assert service["cap_add"] == ["CHOWN"]
            continue
        assert "cap_add" not in service
        context = pod(name if name in MANIFESTS else "router")["securityContext"]
        assert service["user"] == f"{context['runAsUser']}:{context['runAsGroup']}"


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_a_pod_mounts_a_service_mounts(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    mounts = [mount.split(":") for mount in service["volumes"]]
    for source, *_ in mounts:
        assert source in compose["volumes"] or (ROOT / source).is_file()
    # A file of a ConfigMap or a secret is mounted by itself, a folder as it is: path -> read only.
    mounted = {target: options == ["ro"] for _, target, *options in mounts}
    mounted |= {secret["target"]: True for secret in service.get("secrets", [])}
    mounted |= dict.fromkeys(service["tmpfs"], False)
    if "shm_size" in service:
        mounted["/dev/shm"] = False
    for mount in container(name)["volumeMounts"]:
        folder = mount["mountPath"]
        within = [path for path in mounted if path == folder or str(Path(path).parent) == folder]
        assert [mounted[path] for path in within] == [mount.get("readOnly", False)], folder


def test_compose_takes_the_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("no docker compose here: the file is held to k8s/ alone")
    command = [docker, "compose", "--file", str(ROOT / "compose.yaml"), "config", "--quiet"]
    environment = {**os.environ, "REDIS_PASSWORD": "a"}
    checked = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
