"""A namespace of its own on a real cluster: volumes, secrets, the overlay, an S3 server, MLflow."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

ROOT = Path(__file__).parents[3]
IMAGES = {
    "mtmh-python": os.environ.get("MTMH_IMAGE", "localhost/mtmh-python:0.1.0"),
    "mtmh-router": os.environ.get("MTMH_ROUTER_IMAGE", "localhost/mtmh-router:0.1.0"),
    "mtmh-triton": os.environ.get("MTMH_TRITON_IMAGE", "localhost/mtmh-triton:26.09-cpu"),
    "s3": os.environ.get("MTMH_S3_IMAGE", "localhost/mtmh-s3:test"),
}
TOKEN, PASSWORD = "a-token-for-the-test-alone", "a-password-for-the-test-alone"
# A node of two cores takes what the overlays ask of a production node only if it asks for less.
REQUESTS = {
    "triton": ("100m", "512Mi"),
    "router": ("100m", "256Mi"),
    "redis": ("50m", "128Mi"),
    "rollback": ("50m", "256Mi"),
}
# Served until /data/away is there (`s3_away`), and again when it is gone: the data outlives it.
S3 = """
mkdir -p /data/mlpipeline
while true; do
  if [ -e /data/away ]; then sleep 1; continue; fi
  rclone serve s3 --addr :9000 /data & echo $! > /data/process; wait
done
"""
# Names that Kubernetes before 1.21 and 1.23 has under older versions, with the same fields.
OLDER = {
    "policy/v1": "policy/v1beta1",
    "autoscaling/v2": "autoscaling/v2beta2",
    "batch/v1": "batch/v1beta1",
}


@dataclass(eq=False)
class Site:
    """What serves, in a namespace; `seconds` per thing that was set up."""

    namespace: str
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config.load_kube_config()
        self.core, self.apps = client.CoreV1Api(), client.AppsV1Api()

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What `kubectl` prints; its error fails the test."""
        done = subprocess.run(
            ["kubectl", "-n", self.namespace, *words], input=given, capture_output=True, text=True
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def apply(self, *bodies: dict[str, Any], dry_run: bool = False) -> None:
        """Apply objects, with the versions that this cluster has; or ask whether it would."""
        for body in bodies:
            version, kind = body["apiVersion"], body["kind"]
            body["apiVersion"] = version if kind in self.kinds(version) else OLDER[version]
        # A dry run is one into another namespace, too.
        words = ["--namespace=default", "--dry-run=server"] if dry_run else []
        self.kubectl("apply", *words, "-f", "-", given=yaml.safe_dump_all(bodies))

    def has(self, body: dict[str, Any]) -> bool:
        """Whether this cluster knows the object's kind: operators bring their own."""
        version, kind = body["apiVersion"], body["kind"]
        return kind in self.kinds(version) | self.kinds(OLDER.get(version, version))

    @cache  # noqa: B019  (a site or two a process)
    def kinds(self, version: str) -> frozenset[str]:
        """The kinds of an API version that this cluster has."""
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        command = ["kubectl", "get", "--raw", path]
        done = subprocess.run(command, capture_output=True, text=True)
        listed = json.loads(done.stdout)["resources"] if done.returncode == 0 else []
        return frozenset(resource["kind"] for resource in listed)

    def set_up(self, overlay: str = "cpu") -> None:
        """Namespace, volumes, secrets, S3 server, MLflow, and the overlay."""
        labels = {"mtmh/clients": "true"}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": self.namespace, "labels": labels},
            }
        )
        # A pod before the namespace has its account is refused.
        self.wait(
            "account",
            60,
            lambda: "default" in self.kubectl("get", "serviceaccounts", "-o", "name"),
        )
        self._volumes()
        connection = f"redis:6379,password={PASSWORD}"
        self._secret("redis", password=PASSWORD, connection=connection)
        self._secret("router", token=TOKEN)
        key = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "any")
        region = {"AWS_DEFAULT_REGION": "us-east-1"}
        self._secret("object-store", AWS_ENDPOINT_URL="http://s3:9000", **key, **region)
        self._server(
            "s3",
            IMAGES["s3"],
            9000,
            ["sh", "-c", S3],
        )
        mlflow = (
            "exec mlflow server --host 0.0.0.0 --port 5000 --workers 1 --allowed-hosts '*'"
            " --backend-store-uri sqlite:////data/mlflow.db"
            " --artifacts-destination /data/artifacts --serve-artifacts"
        )
        self._server("mlflow", IMAGES["mtmh-python"], 5000, ["sh", "-c", mlflow])
        self.apply(*self.rendered(overlay))

    def rendered(self, overlay: str) -> list[dict[str, Any]]:
        """The overlay's objects in this namespace, asking for little."""
        printed = subprocess.run(
            ["kubectl", "kustomize", ROOT / "k8s" / "overlays" / overlay],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        # An old kustomize leaves something of what a patch deletes.
        bodies = (body for body in yaml.safe_load_all(printed) if body)
        objects = [body for body in bodies if "kind" in body and "$patch" not in body]
        for body in objects:
            body["metadata"]["namespace"] = self.namespace
            for subject in body.get("subjects", []):
                subject["namespace"] = self.namespace
            if body["kind"] not in ("Deployment", "StatefulSet", "CronJob"):
                continue
            cpu, memory = REQUESTS.get(body["metadata"]["name"], ("50m", "256Mi"))
            spec = body["spec"]
            job = spec["jobTemplate"]["spec"] if body["kind"] == "CronJob" else spec
            pod = job["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                container["resources"]["requests"] = {"cpu": cpu, "memory": memory}
                container["resources"]["limits"] = {"memory": "4Gi"}
                image = container["image"].partition(":")[0]
                container["image"] = IMAGES.get(image, container["image"])
        return objects

    def _volumes(self) -> None:
        """Volumes of the node's disk for the two claims, made as a class with fsGroup gives them."""
        node = self.core.list_node().items[0].metadata.labels["kubernetes.io/hostname"]
        folder = f"/var/lib/mtmh-test/{self.namespace}"
        self.run_pod(
            "folders",
            IMAGES["mtmh-python"],
            ["mkdir", "-p", "/host/mtmh", "/host/redis"],
            host=folder,
        )
        for name, claim, mode in (
            ("mtmh", "mtmh", "ReadWriteMany"),
            ("redis", "data-redis-0", "ReadWriteOnce"),
        ):
            terms = [
                {
                    "matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
                    ]
                }
            ]
            self.apply(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": f"{self.namespace}-{name}"},
                    "spec": {
                        "capacity": {"storage": "200Gi"},
                        "accessModes": [mode],
                        "storageClassName": "",
                        "claimRef": {"namespace": self.namespace, "name": claim},
                        "local": {"path": f"{folder}/{name}"},
                        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
                    },
                }
            )

    def _secret(self, name: str, **values: str) -> None:
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        )

    def _server(self, name: str, image: str, port: int, command: list[str]) -> None:
        """A server for the test alone, with its data in the pod."""
        labels = {"app": name}
        self.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "securityContext": {
                                "runAsUser": 10001,
                                "runAsGroup": 10001,
                                "fsGroup": 10001,
                            },
                            "containers": [
                                {
                                    "name": name,
                                    "image": image,
                                    "command": command,
                                    "readinessProbe": {
                                        "tcpSocket": {"port": port},
                                        "periodSeconds": 2,
                                    },
                                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                                }
                            ],
                            "volumes": [{"name": "data", "emptyDir": {}}],
                        },
                    },
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": labels, "ports": [{"port": port}]},
            },
        )

    def run_pod(self, name: str, image: str, command: list[str], **more: Any) -> str:
        """Run a pod to its end; its log. See `start_pod`."""
        self.start_pod(name, image, command, **more)
        return self.log_of(name)

    def start_pod(
        self,
        name: str,
        image: str,
        command: list[str],
        host: str = "",
        labels: dict[str, str] | None = None,
    ) -> None:
        """Start a pod that ends by itself. With `host`, a folder of the node at /host, as root."""
        self.kubectl("delete", "pod", name, "--ignore-not-found", "--wait=true")
        container: dict[str, Any] = {"name": "main", "image": image, "command": command}
        spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
        if host:
            container["volumeMounts"] = [{"name": "host", "mountPath": "/host"}]
            folder = {"path": host, "type": "DirectoryOrCreate"}
            spec["volumes"] = [{"name": "host", "hostPath": folder}]
            spec["securityContext"] = {"runAsUser": 0}
        body = {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}
        self.core.create_namespaced_pod(self.namespace, body)

    def run_job(self, cron_job: str, name: str, **environment: str) -> str:
        """As `kubectl create job NAME --from=cronjob/..`, with other values of its environment; the
        log of its pod, once that has ended well."""
        (body,) = [
            body
            for body in self.rendered("cpu")
            if body["kind"] == "CronJob" and body["metadata"]["name"] == cron_job
        ]
        spec = body["spec"]["jobTemplate"]["spec"]
        for container in spec["template"]["spec"]["containers"]:
            for variable in container["env"]:
                if variable["name"] in environment:
                    variable["value"] = environment[variable["name"]]
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        self.apply(job)
        pods = ("get", "pods", "-l", f"job-name={name}", "-o", "jsonpath={.items[*].metadata.name}")
        return self.log_of(self.wait(f"job {name}", 60, lambda: self.kubectl(*pods)))

    def run_step_pod(
        self, name: str, command: list[str], account: str, seconds: float = 300
    ) -> str:
        """Run a pod as a step's: under its account, with the volume; its log."""
        mount = {"name": "volume", "mountPath": "/mnt/mtmh"}
        container = {"name": "main", "image": IMAGES["mtmh-python"], "command": command}
        spec = {
            "restartPolicy": "Never",
            "serviceAccountName": account,
            "containers": [container | {"volumeMounts": [mount]}],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": "mtmh"}}],
        }
        labels = {"mtmh/step": "deploy"}
        self.kubectl("delete", "pod", name, "--ignore-not-found", "--wait=true")
        body = {"metadata": {"name": name, "labels": labels}, "spec": spec}
        self.core.create_namespaced_pod(self.namespace, body)
        return self.log_of(name, seconds)

    def delete_a_pod(self, component: str) -> None:
        """Delete one pod of a component, as a node that is drained does."""
        selector = f"app.kubernetes.io/component={component}"
        pod = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items[0]
        self.core.delete_namespaced_pod(pod.metadata.name, self.namespace)
        self.wait(f"{pod.metadata.name} replaced", 60, lambda: not self.available(component))

    def s3_away(self, seconds: float) -> None:
        """The S3 server refuses every connection for that long; what it holds stays."""
        self.kubectl(
            "exec", "deploy/s3", "--", "sh", "-c", "touch /data/away; kill $(cat /data/process)"
        )
        time.sleep(seconds)
        self.kubectl("exec", "deploy/s3", "--", "rm", "/data/away")

    def log_of(self, name: str, seconds: float = 120) -> str:
        """The log of a pod that has ended well."""
        phase = self.wait(f"pod {name}", seconds, lambda: self._ended(name))
        log = self.kubectl("logs", name)
        assert phase == "Succeeded", f"{name}: {log}"
        return log

    def _ended(self, name: str) -> str:
        phase = self.core.read_namespaced_pod(name, self.namespace).status.phase
        return str(phase) if phase in ("Succeeded", "Failed") else ""

    def wait(self, what: str, seconds: float, done: Any) -> Any:
        """What `done` returns once that is true; the time is kept under `what`."""
        started = time.monotonic()
        while not (result := done()):
            assert time.monotonic() - started < seconds, (
                f"{what}: not within {seconds:.0f} s\n{self.state()}"
            )
            time.sleep(0.5)
        self.seconds[what] = round(time.monotonic() - started, 1)
        return result

    def state(self) -> str:
        """Pods, events and the routers' last words, for whoever reads why a test failed."""
        routers = ["-l", "app.kubernetes.io/component=router", "--tail=20", "--prefix"]
        return (
            self.kubectl("get", "pods", "-o", "wide")
            + self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-3000:]
            + self.kubectl("logs", *routers)
        )

    def nodes_not_ready_since(self, moment: datetime) -> bool:
        """Whether the cluster called a node not ready after `moment`."""
        events = self.core.list_event_for_all_namespaces(field_selector="reason=NodeNotReady").items
        return any(event.last_timestamp and event.last_timestamp >= moment for event in events)

    def available(self, name: str) -> bool:
        """Whether all pods of a Deployment or StatefulSet are there and ready, and no old ones."""
        read = (
            self.apps.read_namespaced_stateful_set
            if name == "redis"
            else self.apps.read_namespaced_deployment
        )
        body = read(name, self.namespace)
        status, wanted = body.status, body.spec.replicas
        return (status.observed_generation or 0) >= body.metadata.generation and (
            status.ready_replicas or 0
        ) == (status.replicas or 0) == wanted

    def started(self, component: str) -> bool:
        """Whether the pods of a component run, ready or not."""
        selector = f"app.kubernetes.io/component={component}"
        pods = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        statuses = [status for pod in pods for status in pod.status.container_statuses or []]
        return bool(statuses) and all(status.started for status in statuses)

    def can(self, account: str, verb: str, group: str, resource: str, name: str) -> bool:
        """Whether the account may do that, as the API server judges (`kubectl auth can-i`)."""
        wanted = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        review = client.AuthorizationV1Api().create_subject_access_review(
            {
                "spec": {
                    "user": f"system:serviceaccount:{self.namespace}:{account}",
                    "resourceAttributes": {**wanted, "name": name},
                }
            }
        )
        return bool(review.status.allowed)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """An answer of the router's Service, asked from a client's pod."""
        code = (
            "import json, sys, urllib.request as u\n"
            "data = json.dumps(json.loads(sys.argv[2])).encode() if sys.argv[2] != 'null' else None\n"
            "head = {'Authorization': 'Bearer ' + sys.argv[3], 'Content-Type': 'application/json'}\n"
            "print(u.urlopen(u.Request(sys.argv[1], data=data, headers=head), timeout=10).read().decode())"
        )
        command = ["python3", "-c", code, f"http://router:8080{path}", json.dumps(body), TOKEN]
        answer: dict[str, Any] = json.loads(
            self.run_pod("client", IMAGES["mtmh-python"], command, labels={"mtmh/client": "true"})
        )
        return answer

    def tear_down(self) -> None:
        """Everything away again."""
        subprocess.run(
            ["kubectl", "delete", "namespace", self.namespace, "--ignore-not-found", "--wait=true"],
            check=True,
        )
        names = [f"{self.namespace}-{name}" for name in ("mtmh", "redis")]
        subprocess.run(["kubectl", "delete", "pv", *names, "--ignore-not-found"], check=True)
