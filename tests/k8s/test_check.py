"""The shipped overlays pass every check, and every check finds what is broken on purpose, by file
and field.
"""

import os
import re
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
KEDA, INGRESS = "overlays/autoscaling/triton.yaml", "overlays/ingress/ingress.yaml"
MONITORS = "overlays/prometheus-operator/pods.yaml"
GPU, LOOP, ROLLBACK = "overlays/gpu/triton.yaml", "overlays/loop", "base/rollback.yaml"
FROM_ROUTER = """    - from:
        - podSelector:
            matchLabels: {app.kubernetes.io/part-of: mtmh, app.kubernetes.io/component: router}
      ports"""
# By check: a file, what is broken in it as ..<written|written instead>.., and what the finding says.
BROKEN = {
    "schemas": [
        (TRITON, "replicas: <2|two>", "Deployment triton: spec.replicas"),
        (TRITON, "<enableServiceLinks|enableServiceLink>", "enableServiceLink"),
        (ROUTER, "autoscaling/<v2|v2beta2>", "has no autoscaling/v2beta2"),
        (KEDA, 'threshold: <"1"|1>', "ScaledObject triton: spec.triggers.0.metadata.threshold"),
        (KEDA, "<minReplicaCount|minReplicas>: 2", "ScaledObject triton: spec: Additional properties"),
        (KEDA, "type: <Pods, value: 2|Pod, value: 2>", "advanced.horizontalPodAutoscalerConfig.behavior.scaleUp"),
        (MONITORS, "    - port: <http|8080>", "PodMonitor mtmh-router: spec.podMetricsEndpoints.0.port"),
    ],
    "own_pods": [
        (ROUTER, "component: <router|rooter>}\n  template", "spec.selector: takes no pods"),
        (ROUTER, "<, app.kubernetes.io/component: router|>}\n  template", "spec.selector: takes redis, router, triton"),
    ],
    "services": [
        (TRITON, "component: <triton|tritan>}\n  ports", "Service triton: spec.selector: takes the pods of 0"),
        (ROUTER, "port: 8081, targetPort: <grpc|grcp>", "Service router: spec.ports: targetPort grcp"),
        (REDIS, "port: 6379, targetPort: <redis|6380>", "Service redis: spec.ports: targetPort 6380"),
    ],
    "budgets": [
        (TRITON, "1\n  selector:\n    matchLabels: {app.<k|q>", "Budget triton: spec.selector"),
    ],
    "autoscalers": [
        (ROUTER, "kind: Deployment, name: <router|routers>}", "there is no Deployment routers"),
        (ROUTER, "  <|replicas: 2\n  >revisionHistoryLimit: 5", "Deployment router: spec.replicas"),
        (ROUTER, 'requests: {<cpu: "1", |>memory: 1Gi}', "spec.metrics: cpu"),
        (KEDA, "kind: Deployment, name: <triton|tritons>}", "ScaledObject triton: spec.scaleTargetRef"),
        ("overlays/autoscaling/replicas.yaml", "replicas: <null|3>", "ScaledObject triton sets them"),
    ],
    "pod_monitors": [
        (MONITORS, "component: <router|rooter>", "PodMonitor mtmh-router: spec.selector: takes the pods of 0"),
        (MONITORS, "    - port: <metrics|metric>", "mtmh-triton: spec.podMetricsEndpoints: port metric"),
    ],
    "ingresses": [
        (INGRESS, "hosts: [<mtmh|www>.example.com]", "Ingress router-http: spec.tls: covers no host mtmh"),
        (INGRESS, "service: {name: <router|rooter>, port: {name: http", "Ingress router-http: spec.rules"),
        (INGRESS, "name: router, port: {name: <grpc|grcp>}", "Ingress router-grpc: spec.rules"),
    ],
    "stateful_names": [
        (REDIS, "serviceName: <redis|reddis>", "StatefulSet redis: spec.serviceName"),
        (REDIS, "<  clusterIP: None\n|>", "StatefulSet redis: spec.serviceName"),
    ],
    "spread": [
        (TRITON, "labelSelector:\n            matchLabels: {<|a: b, >", "topologySpread"),
    ],
    "variables": [
        (BASE, "name: <served|serving>", "containers[triton].env[MTMH_DATA]: there is no ConfigMap served"),
        (ROLLBACK, "key: <tracking_uri|uri>", "CronJob rollback: containers[rollback].env[MLFLOW_TRACKING_URI]"),
        (BASE, "<data|date>=synthetic", "ConfigMap served has no key data"),
        (ROUTER, "{name: <redis|reddis>, key: password}", "env[REDIS_PASSWORD]: there is no Secret reddis"),
        ("operator.yaml", "redis: [<password|pasword>, connection]", "Secret redis has no key password"),
        (REDIS, "  <|envFrom: [{configMapRef: {name: gone}}]\n          >env:\n",
         "[redis].envFrom: there is no ConfigMap gone"),
    ],
    "volumes": [
        (ROUTER, "configMap: {name: <router|rooter>}", "volumes[configuration]: there is no ConfigMap rooter"),
        (ROUTER, "secretName: <router|rooter>", "volumes[token]: there is no Secret rooter"),
        (ROUTER, "items: [{key: <token|tocken>, path", "Secret router has no key tocken"),
        ("base/volume.yaml", "name: <mtmh|mtwh>", "volumes[volume]: there is no PersistentVolumeClaim mtmh"),
    ],
    "accounts": [
        (TRITON, "      <|serviceAccountName: triton\n      >enableServiceLinks", "there is no ServiceAccount triton"),
        (ACCOUNT, "kind: Role\n  name: <mtmh-|>deploy\nsubjects", "roleRef: there is no Role deploy"),
        (ACCOUNT, "kind: ServiceAccount, name: <mtmh-deploy|deployer>, namespace: mtmh",
         "subjects: there is no ServiceAccount deployer"),
        (ACCOUNT, "resourceNames: [<triton|tritons>]", "rules.resourceNames: there is no Deployment tritons"),
        (ROLLBACK, "serviceAccountName: <mtmh-deploy|deployer>", "CronJob rollback: serviceAccountName"),
        (ACCOUNT, 'verbs: [<list|"*">]', "Role mtmh-deploy: rules: a star"),
    ],
    "namespaces": [
        (BASE, "<namespace: mtmh\n|>", "metadata.namespace"),
    ],
    "images": [
        (REDIS, "redis:<8.2.10-bookworm|latest>", "containers[redis].image: 'redis:latest'"),
        (REDIS, "<redis:8.2.10-bookworm|registry.local:5000/redis>", "is not pinned"),
        ("overlays/gpu/kustomization.yaml", "<newTag: 26.09-gpu|newName: ours/triton>", "containers[triton].image"),
    ],
    "not_root": [
        (TRITON, "runAsNonRoot: <true|false>", "runAsNonRoot must be true"),
        (REDIS, "runAsUser: <999|0>", "containers[redis].securityContext: runAsNonRoot"),
        (TRITON, "allowPrivilegeEscalation: <false|true>", "allowPrivilegeEscalation must be false"),
        (REDIS, "drop: [<ALL|NET_RAW>]", "capabilities.drop"),
        (ROUTER, "readOnlyRootFilesystem: <true|false>", "readOnlyRootFilesystem must be true"),
        (ROUTER, "type: <RuntimeDefault|Unconfined>", "seccompProfile.type"),
    ],
    "apart_from_the_node": [
        (ROLLBACK, "<serviceAccountName: mtmh-deploy|hostPID: true>", "CronJob rollback: automountServiceAccountToken"),
        (ROUTER, "automountServiceAccountToken: <false|true>", "automountServiceAccountToken"),
        (TRITON, "      <|hostNetwork: true\n      >enableServiceLinks", "hostNetwork: must be absent"),
        (TRITON, "<persistentVolumeClaim: {claimName: mtmh|hostPath: {path: /srv>}", "volumes[volume]: hostPath"),
    ],
    "no_sidecars": [
        (TRITON, 'sidecar.istio.io/inject: <"false"|"true">', "Deployment triton: template.metadata.labels"),
        (ROLLBACK, '<, sidecar.istio.io/inject: "false"|>', "CronJob rollback: template.metadata.labels"),
    ],
    "resources": [
        (ROUTER, "limits: {<memory: 2Gi|>}", "containers[router].resources: limits.memory"),
        (REDIS, "requests: {cpu: 500m<, memory: 4Gi|>}", "requests.memory"),
        (GPU, "key: <nvidia|amd>.com/gpu,", "containers[triton].resources: asks for a GPU"),
    ],
    "redis_headroom": [
        ("base/redis.conf", "maxmemory <2|3>gb", "limits.memory 4Gi is less than twice maxmemory 3gb"),
        (REDIS, "limits: {memory: <4Gi|3900Mi>}", "limits.memory 3900Mi is less than twice maxmemory 2gb"),
    ],
    "probes": [
        (TRITON, "/v2/health/live, port: <http|https>", "containers[triton].livenessProbe: there is no port https"),
        (ROUTER, "<readinessProbe|startupProbe2>", "containers[router].readinessProbe: is not set"),
    ],
    "mounts": [
        (ROUTER, "{name: <tmp|temp>, mountPath", "volumeMounts[/tmp]: there is no volume temp"),
        (TRITON, "<            - {name: shm, mountPath: /dev/shm}\n|>", "volumes[shm]: is mounted nowhere"),
        (TRITON, "mountPath: /<dev/shm|tmp>", "volumeMounts[/tmp]: is mounted twice"),
    ],
    "expansions": [
        (ROUTER, "password=$(<REDIS_PASSWORD|REDIS_PASWORD>)", "env[REDIS_CONNECTION]: $(REDIS_PASWORD)"),
        (ROUTER, "log/$(<POD_NAME|POD>)", "volumeMounts[/srv/mtmh/log].subPathExpr: $(POD)"),
    ],
    "ends": [
        (TRITON, "terminationGracePeriodSeconds: <60|20>", "Deployment triton: terminationGracePeriodSeconds"),
    ],
    "jobs": [
        (f"{LOOP}/monitor.yaml", "concurrencyPolicy: <Forbid|Allow>", "CronJob monitor: spec.concurrencyPolicy"),
        (f"{LOOP}/refresh.yaml", "<activeDeadlineSeconds: 10800|completions: 1>",
         "CronJob refresh: spec.jobTemplate.spec.activeDeadlineSeconds"),
        (f"{LOOP}/retain.yaml", "restartPolicy: <Never|OnFailure>", "must be Never"),
        (f"{LOOP}/retain.yaml", "<  failedJobsHistoryLimit: 3\n|>", "CronJob retain: spec.failedJobsHistoryLimit"),
    ],
    "selectors": [
        (f"{LOOP}/network.yaml", "component: <watch|watcher>}\n  policyTypes", "watch: spec.podSelector"),
        (NETWORK, "component: <redis|reddis>}\n  policyTypes", "redis: spec.podSelector: takes no pods"),
        (NETWORK, "mtmh/step: <histories|history>", "NetworkPolicy redis: spec.ingress"),
    ],
    "ports": [
        (NETWORK, "{protocol: TCP, port: <redis|6380>}\n---", "NetworkPolicy redis: spec.ingress: port 6380"),
        (NETWORK, "port: <grpc|8003>}\n    - to", "spec.egress: port 8003: the pods of triton"),
    ],
    "denied_first": [
        (f"{LOOP}/retain.yaml", "labels:\n            <app.kubernetes.io/part-of|part-of>: mtmh", "CronJob retain"),
        (NETWORK, "  policyTypes: [Ingress<, Egress|>]\n---", "no NetworkPolicy denies these pods"),
    ],
    "let_through": [
        ("base/router.yaml", "dns:///triton:<8001|8000>",
         "volumes[configuration] (router.yaml): Service triton has no port 8000"),
        (ROUTER, 'value: "redis:<6379|6380>,', "env[REDIS_CONNECTION]: Service redis has no port 6380"),
        (NETWORK, "port: <grpc|http>}\n    - to", "no NetworkPolicy lets it out to triton, port 8001"),
        (NETWORK, "port: <grpc|http>}\n---", "no NetworkPolicy of triton lets it in to port 8001"),
    ],
    "names_resolve": [
        (NETWORK, "{protocol: UDP, port: <53|54>}", "Deployment router: spec: calls a Service by name"),
        (NETWORK, "cidr: 169.254.20.<10|11>/32", "lets it ask NodeLocal DNSCache (53)"),
        (NETWORK, "{protocol: TCP, port: <5353|53>}", "lets it ask OpenShift's DNS (5353)"),
    ],
    "reachable": [
        (NETWORK, "<        - {protocol: TCP, port: grpc}\n|>    - from",
         "Service router: spec.ports: no NetworkPolicy lets anybody in to port 8081"),
    ],
    "triton_is_the_routers": [
        (NETWORK, "component: <router|redis>}\n      ports", "in to Triton"),
        (NETWORK, f"<{FROM_ROUTER}|    - ports>", "spec.ingress: lets everybody in to Triton"),
        (NETWORK, "port: <metrics|grpc>}", "prometheus'}}} in to Triton"),
        (NETWORK, "port: metrics}<|\n        - {port: http}>", "prometheus'}}} in to"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("overlay", sorted(OVERLAYS.iterdir()), ids=lambda path: path.name)
def test_the_shipped_overlays_pass_every_check(overlay: Path) -> None:
    assert findings(render(overlay)) == []


def test_every_check_is_seen_to_fail() -> None:
    assert set(BROKEN) == {check.__name__ for check in CHECKS}
    assert all(BROKEN.values())


@pytest.mark.parametrize(
    ("name", "file", "change", "says"),
    [(name, *case) for name, cases in BROKEN.items() for case in cases],
)
def test_what_is_broken_is_found(
    tmp_path: Path, name: str, file: str, change: str, says: str
) -> None:
    folder = copied(tmp_path, file, change)
    (check,) = [check for check in CHECKS if check.__name__ == name]
    overlay = folder / "overlays" / (file.split("/")[1] if file.startswith("overlays") else "cpu")
    found = [finding for finding in check(render(overlay)) if says in finding]
    assert found, list(check(render(overlay)))
    path, _, _ = found[0].partition(": ")
    assert Path(path).is_file()
    assert Path(path).resolve().is_relative_to(folder)


def test_what_kustomize_refuses_is_told_with_its_words(tmp_path: Path) -> None:
    folder = copied(tmp_path, BASE, "<redis|radis>.conf")
    with pytest.raises(UserError, match=r"(?s)cpu: kubectl kustomize says: .*radis\.conf"):
        render(folder / "overlays" / "cpu")


@pytest.mark.parametrize(
    ("tag", "status", "says"),
    [("8.2.10-bookworm", 0, "nothing wrong"), ("latest", 1, "redis:latest")],
)
def test_the_command_prints_and_exits_by_what_it_finds(
    tmp_path: Path, tag: str, status: int, says: str
) -> None:
    folder = copied(tmp_path, REDIS, f"redis:<8.2.10-bookworm|{tag}>")
    command = [sys.executable, "-m", "k8s.check", str(folder / "overlays" / "cpu")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=K8S.parent)
    assert done.returncode == status
    assert says in done.stdout


def copied(place: Path, file: str, change: str) -> Path:
    """A copy of the files, one of them changed as the cases of BROKEN write it."""
    before, old, new, after = re.fullmatch(r"(?s)([^<]*)<(.*)\|(.*)>(.*)", change).groups()
    written, instead = before + old + after, before + new + after
    folder = place / "k8s"
    shutil.copytree(K8S, folder, ignore=shutil.ignore_patterns("check", "__pycache__"))
    text = (folder / file).read_text()
    assert written in text
    (folder / file).write_text(text.replace(written, instead))
    return folder
