"""The shipped overlays pass every check, and every check finds what is broken on purpose, by file
and field.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from k8s.check.__main__ import CHECKS, OVERLAYS, findings
from k8s.check.render import render
from mtmh.errors import UserError

K8S = OVERLAYS.parent
MESSAGE = "no kubectl on the PATH: install it with 'apt-get install -y kubernetes-client'"
if shutil.which("kubectl") is None and not os.environ.get("CI"):
    pytest.skip(MESSAGE, allow_module_level=True)

TRITON, ROUTER, REDIS = "base/triton.yaml", "base/router-deployment.yaml", "base/redis.yaml"
NETWORK, ACCOUNT, BASE = "base/network.yaml", "base/deploy-account.yaml", "base/kustomization.yaml"
GPU = "overlays/gpu/triton.yaml"
FROM_ROUTER = """    - from:
        - podSelector:
            matchLabels: {app.kubernetes.io/part-of: mtmh, app.kubernetes.io/component: router}
      ports"""
# check, file, what is written there, what is written instead, what the finding says
BROKEN = [
    ("schemas", TRITON, "replicas: 2", "replicas: two", "Deployment triton: spec.replicas"),
    ("schemas", TRITON, "enableServiceLinks", "enableServiceLink", "enableServiceLink"),
    ("schemas", ROUTER, "autoscaling/v2", "autoscaling/v2beta2", "has no autoscaling/v2beta2"),
    (
        "own_pods",
        ROUTER,
        "component: router}\n  template",
        "component: rooter}\n  template",
        "spec.selector: takes no pods",
    ),
    (
        "own_pods",
        ROUTER,
        ", app.kubernetes.io/component: router}\n  template",
        "}\n  template",
        "spec.selector: takes redis, router, triton",
    ),
    (
        "services",
        TRITON,
        "component: triton}\n  ports",
        "component: tritan}\n  ports",
        "Service triton: spec.selector: takes the pods of 0",
    ),
    (
        "services",
        ROUTER,
        "port: 8081, targetPort: grpc",
        "port: 8081, targetPort: grcp",
        "Service router: spec.ports: targetPort grcp",
    ),
    (
        "services",
        REDIS,
        "port: 6379, targetPort: redis",
        "port: 6379, targetPort: 6380",
        "Service redis: spec.ports: targetPort 6380",
    ),
    (
        "budgets",
        TRITON,
        "1\n  selector:\n    matchLabels: {app.k",
        "1\n  selector:\n    matchLabels: {app.q",
        "Budget triton: spec.selector",
    ),
    (
        "autoscalers",
        ROUTER,
        "kind: Deployment, name: router}",
        "kind: Deployment, name: routers}",
        "there is no Deployment routers",
    ),
    (
        "autoscalers",
        ROUTER,
        "  revisionHistoryLimit: 5",
        "  replicas: 2\n  revisionHistoryLimit: 5",
        "Deployment router: spec.replicas",
    ),
    (
        "autoscalers",
        ROUTER,
        'requests: {cpu: "1", memory: 1Gi}',
        "requests: {memory: 1Gi}",
        "spec.metrics: cpu",
    ),
    (
        "stateful_names",
        REDIS,
        "serviceName: redis",
        "serviceName: reddis",
        "StatefulSet redis: spec.serviceName",
    ),
    ("stateful_names", REDIS, "  clusterIP: None\n", "", "StatefulSet redis: spec.serviceName"),
    (
        "spread",
        TRITON,
        "labelSelector:\n            matchLabels: {",
        "labelSelector:\n            matchLabels: {a: b, ",
        "topologySpread",
    ),
    (
        "variables",
        BASE,
        "name: served",
        "name: serving",
        "containers[triton].env[MTMH_DATA]: there is no ConfigMap served",
    ),
    ("variables", BASE, "data=synthetic", "date=synthetic", "ConfigMap served has no key data"),
    (
        "variables",
        ROUTER,
        "{name: redis, key: password}",
        "{name: reddis, key: password}",
        "env[REDIS_PASSWORD]: there is no Secret reddis",
    ),
    (
        "variables",
        "operator.yaml",
        "redis: [password, connection]",
        "redis: [pasword, connection]",
        "Secret redis has no key password",
    ),
    (
        "variables",
        REDIS,
        "  env:\n",
        "  envFrom: [{configMapRef: {name: gone}}]\n          env:\n",
        "[redis].envFrom: there is no ConfigMap gone",
    ),
    (
        "volumes",
        ROUTER,
        "configMap: {name: router}",
        "configMap: {name: rooter}",
        "volumes[configuration]: there is no ConfigMap rooter",
    ),
    (
        "volumes",
        ROUTER,
        "secretName: router",
        "secretName: rooter",
        "volumes[token]: there is no Secret rooter",
    ),
    (
        "volumes",
        ROUTER,
        "items: [{key: token, path",
        "items: [{key: tocken, path",
        "Secret router has no key tocken",
    ),
    (
        "volumes",
        "base/volume.yaml",
        "name: mtmh",
        "name: mtwh",
        "volumes[volume]: there is no PersistentVolumeClaim mtmh",
    ),
    (
        "accounts",
        TRITON,
        "      enableServiceLinks",
        "      serviceAccountName: triton\n      enableServiceLinks",
        "there is no ServiceAccount triton",
    ),
    (
        "accounts",
        ACCOUNT,
        "kind: Role\n  name: mtmh-deploy\nsubjects",
        "kind: Role\n  name: deploy\nsubjects",
        "roleRef: there is no Role deploy",
    ),
    (
        "accounts",
        ACCOUNT,
        "kind: ServiceAccount, name: mtmh-deploy, namespace: mtmh",
        "kind: ServiceAccount, name: deployer, namespace: mtmh",
        "subjects: there is no ServiceAccount deployer",
    ),
    (
        "accounts",
        ACCOUNT,
        "resourceNames: [triton]",
        "resourceNames: [tritons]",
        "rules.resourceNames: there is no Deployment tritons",
    ),
    ("accounts", ACCOUNT, "verbs: [list]", 'verbs: ["*"]', "Role mtmh-deploy: rules: a star"),
    ("namespaces", BASE, "namespace: mtmh\n", "", "metadata.namespace"),
    (
        "images",
        REDIS,
        "redis:8.2.10-bookworm",
        "redis:latest",
        "containers[redis].image: 'redis:latest'",
    ),
    ("images", REDIS, "redis:8.2.10-bookworm", "registry.local:5000/redis", "is not pinned"),
    (
        "images",
        "overlays/gpu/kustomization.yaml",
        "newTag: 26.09-gpu",
        "newName: ours/triton",
        "containers[triton].image",
    ),
    ("not_root", TRITON, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot must be true"),
    (
        "not_root",
        REDIS,
        "runAsUser: 999",
        "runAsUser: 0",
        "containers[redis].securityContext: runAsNonRoot",
    ),
    (
        "not_root",
        TRITON,
        "allowPrivilegeEscalation: false",
        "allowPrivilegeEscalation: true",
        "allowPrivilegeEscalation must be false",
    ),
    ("not_root", REDIS, "drop: [ALL]", "drop: [NET_RAW]", "capabilities.drop"),
    (
        "not_root",
        ROUTER,
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "readOnlyRootFilesystem must be true",
    ),
    ("not_root", ROUTER, "type: RuntimeDefault", "type: Unconfined", "seccompProfile.type"),
    (
        "apart_from_the_node",
        ROUTER,
        "automountServiceAccountToken: false",
        "automountServiceAccountToken: true",
        "automountServiceAccountToken",
    ),
    (
        "apart_from_the_node",
        TRITON,
        "      enableServiceLinks",
        "      hostNetwork: true\n      enableServiceLinks",
        "hostNetwork: must be absent",
    ),
    (
        "apart_from_the_node",
        TRITON,
        "persistentVolumeClaim: {claimName: mtmh}",
        "hostPath: {path: /srv}",
        "volumes[volume]: hostPath",
    ),
    (
        "resources",
        ROUTER,
        "limits: {memory: 2Gi}",
        "limits: {}",
        "containers[router].resources: limits.memory",
    ),
    (
        "resources",
        REDIS,
        "requests: {cpu: 500m, memory: 4Gi}",
        "requests: {cpu: 500m}",
        "requests.memory",
    ),
    (
        "resources",
        GPU,
        "key: nvidia.com/gpu,",
        "key: amd.com/gpu,",
        "containers[triton].resources: asks for a GPU",
    ),
    (
        "probes",
        TRITON,
        "/v2/health/live, port: http",
        "/v2/health/live, port: https",
        "containers[triton].livenessProbe: there is no port https",
    ),
    (
        "probes",
        ROUTER,
        "readinessProbe",
        "startupProbe2",
        "containers[router].readinessProbe: is not set",
    ),
    (
        "mounts",
        ROUTER,
        "{name: tmp, mountPath",
        "{name: temp, mountPath",
        "volumeMounts[/tmp]: there is no volume temp",
    ),
    (
        "mounts",
        TRITON,
        "            - {name: shm, mountPath: /dev/shm}\n",
        "",
        "volumes[shm]: is mounted nowhere",
    ),
    (
        "mounts",
        TRITON,
        "mountPath: /dev/shm",
        "mountPath: /tmp",
        "volumeMounts[/tmp]: is mounted twice",
    ),
    (
        "expansions",
        ROUTER,
        "password=$(REDIS_PASSWORD)",
        "password=$(REDIS_PASWORD)",
        "env[REDIS_CONNECTION]: $(REDIS_PASWORD)",
    ),
    (
        "expansions",
        ROUTER,
        "log/$(POD_NAME)",
        "log/$(POD)",
        "volumeMounts[/srv/mtmh/log].subPathExpr: $(POD)",
    ),
    (
        "ends",
        TRITON,
        "terminationGracePeriodSeconds: 60",
        "terminationGracePeriodSeconds: 20",
        "Deployment triton: terminationGracePeriodSeconds",
    ),
    (
        "selectors",
        NETWORK,
        "component: redis}\n  policyTypes",
        "component: reddis}\n  policyTypes",
        "redis: spec.podSelector: takes no pods",
    ),
    (
        "selectors",
        NETWORK,
        "mtmh/step: features",
        "mtmh/step: feature",
        "NetworkPolicy redis: spec.ingress",
    ),
    (
        "ports",
        NETWORK,
        "{protocol: TCP, port: redis}\n---",
        "{protocol: TCP, port: 6380}\n---",
        "NetworkPolicy redis: spec.ingress: port 6380",
    ),
    (
        "ports",
        NETWORK,
        "port: grpc}\n    - to",
        "port: 8003}\n    - to",
        "spec.egress: port 8003: the pods of triton",
    ),
    (
        "denied_first",
        NETWORK,
        "  policyTypes: [Ingress, Egress]\n---",
        "  policyTypes: [Ingress]\n---",
        "no NetworkPolicy denies these pods",
    ),
    (
        "let_through",
        "base/router.yaml",
        "dns:///triton:8001",
        "dns:///triton:8000",
        "volumes[configuration] (router.yaml): Service triton has no port 8000",
    ),
    (
        "let_through",
        ROUTER,
        'value: "redis:6379,',
        'value: "redis:6380,',
        "env[REDIS_CONNECTION]: Service redis has no port 6380",
    ),
    (
        "let_through",
        NETWORK,
        "port: grpc}\n    - to",
        "port: http}\n    - to",
        "no NetworkPolicy lets it out to triton, port 8001",
    ),
    (
        "let_through",
        NETWORK,
        "port: grpc}\n---",
        "port: http}\n---",
        "no NetworkPolicy of triton lets it in to port 8001",
    ),
    (
        "names_resolve",
        NETWORK,
        "{protocol: UDP, port: 53}",
        "{protocol: UDP, port: 54}",
        "Deployment router: spec: calls a Service by name",
    ),
    (
        "reachable",
        NETWORK,
        "        - {protocol: TCP, port: grpc}\n    - from",
        "    - from",
        "Service router: spec.ports: no NetworkPolicy lets anybody in to port 8081",
    ),
    (
        "triton_is_the_routers",
        NETWORK,
        "component: router}\n      ports",
        "component: redis}\n      ports",
        "in to Triton",
    ),
    (
        "triton_is_the_routers",
        NETWORK,
        FROM_ROUTER,
        "    - ports",
        "spec.ingress: lets everybody in to Triton",
    ),
    (
        "triton_is_the_routers",
        NETWORK,
        "port: metrics}",
        "port: grpc}",
        "prometheus'}}} in to Triton",
    ),
    (
        "triton_is_the_routers",
        NETWORK,
        "port: metrics}",
        "port: metrics}\n        - {port: http}",
        "prometheus'}}} in to",
    ),
]


@pytest.mark.parametrize("overlay", sorted(OVERLAYS.iterdir()), ids=lambda path: path.name)
def test_the_shipped_overlays_pass_every_check(overlay: Path) -> None:
    assert findings(render(overlay)) == []


def test_every_check_is_seen_to_fail() -> None:
    assert {name for name, *_ in BROKEN} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize(("name", "file", "written", "instead", "told"), BROKEN)
def test_what_is_broken_is_found(
    tmp_path: Path, name: str, file: str, written: str, instead: str, told: str
) -> None:
    folder = copied(tmp_path, file, written, instead)
    (check,) = [check for check in CHECKS if check.__name__ == name]
    overlay = folder / "overlays" / ("gpu" if "gpu" in file else "cpu")
    found = [finding for finding in check(render(overlay)) if told in finding]
    assert found, list(check(render(overlay)))
    path, _, _ = found[0].partition(": ")
    assert Path(path).is_file()
    assert Path(path).resolve().is_relative_to(folder)


def test_what_kustomize_refuses_is_told_with_its_words(tmp_path: Path) -> None:
    folder = copied(tmp_path, BASE, "redis.conf", "radis.conf")
    with pytest.raises(UserError, match=r"(?s)cpu: kubectl kustomize says: .*radis\.conf"):
        render(folder / "overlays" / "cpu")


@pytest.mark.parametrize(
    ("broken", "status", "says"), [(False, 0, "nothing wrong"), (True, 1, "redis:latest")]
)
def test_the_command_prints_and_exits_by_what_it_finds(
    tmp_path: Path, broken: bool, status: int, says: str
) -> None:
    folder = copied(
        tmp_path,
        REDIS,
        "redis:8.2.10-bookworm",
        "redis:latest" if broken else "redis:8.2.10-bookworm",
    )
    command = [sys.executable, "-m", "k8s.check", str(folder / "overlays" / "cpu")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=K8S.parent)
    assert done.returncode == status
    assert says in done.stdout


def copied(place: Path, file: str, written: str, instead: str) -> Path:
    """A copy of the files, one of them with `instead` where `written` stood."""
    folder = place / "k8s"
    shutil.copytree(K8S, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    text = (folder / file).read_text()
    assert written in text
    (folder / file).write_text(text.replace(written, instead))
    return folder
