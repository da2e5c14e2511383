"""Objects: each is what its schema says, and whatever one says of another (names, selectors) is
there."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from k8s.check.render import KubeObject, Rendered

CUSTOM = Path(__file__).with_name("custom.yaml")
VERSION = "1.37"  # of Kubernetes, whose schemas are checked against
RESOURCES = {"deployments": "Deployment", "statefulsets": "StatefulSet", "configmaps": "ConfigMap"}
KUBEFLOWS = ("kfp-launcher",)  # made by Kubeflow where it runs


def schemas(rendered: Rendered) -> Iterator[str]:
    """Every object is what its kind's schema says, without a field that it does not know."""
    from kubernetes_validate import SchemaNotFoundError, ValidationError, validate

    custom = yaml.safe_load(CUSTOM.read_text())
    for thing in rendered.objects:
        if schema := custom.get(f"{thing.body['apiVersion']} {thing.kind}"):
            yield from _custom(thing, schema)
            continue
        try:
            validate(thing.body, VERSION, strict=True)
        except ValidationError as error:
            yield thing.finding(".".join(map(str, error.path)) or "the object", error.message)
        except SchemaNotFoundError:
            yield thing.finding(
                "kind", f"Kubernetes {VERSION} has no {thing.body['apiVersion']} {thing.kind}"
            )


def _custom(thing: KubeObject, schema: dict[str, Any]) -> Iterator[str]:
    """What of the object's spec is not as the schema says; a field that it does not name is wrong
    too."""
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(_closed(schema)).iter_errors(thing.body["spec"]):
        yield thing.finding(".".join(["spec", *map(str, error.path)]), error.message)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, of objects that have no field but those it names, and of lists."""
    closed = dict(schema)
    if "properties" in schema:
        fields = {name: _closed(field) for name, field in schema["properties"].items()}
        closed |= {"type": "object", "properties": fields, "additionalProperties": False}
    if "items" in schema:
        closed |= {"type": "array", "items": _closed(schema["items"])}
    return closed


def own_pods(rendered: Rendered) -> Iterator[str]:
    """A workload's selector takes its own pods, and nobody else's."""
    for thing in rendered.workloads:
        taken = {other.name for other in rendered.selected(thing.body["spec"].get("selector", {}))}
        if taken != {thing.name}:
            names = ", ".join(sorted(taken)) or "no pods"
            yield thing.finding(
                "spec.selector", f"takes {names}, must take the pods of {thing.name} alone"
            )


def services(rendered: Rendered) -> Iterator[str]:
    """A Service takes pods that have its target ports."""
    for service in rendered.of("Service"):
        pods = rendered.selected({"matchLabels": service.body["spec"].get("selector", {})})
        if len(pods) != 1:
            yield service.finding(
                "spec.selector", f"takes the pods of {len(pods)} workloads, must take those of one"
            )
        for port in service.body["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in pods:
                if pod.port(target) is None:
                    message = f"targetPort {target}: the pods of {pod.name} have no such port"
                    yield service.finding("spec.ports", message)


def budgets(rendered: Rendered) -> Iterator[str]:
    """A PodDisruptionBudget takes the pods of one workload."""
    for budget in rendered.of("PodDisruptionBudget"):
        taken = rendered.selected(budget.body["spec"]["selector"])
        if len(taken) != 1:
            yield budget.finding(
                "spec.selector", f"takes the pods of {len(taken)} workloads, must take those of one"
            )


def autoscalers(rendered: Rendered) -> Iterator[str]:
    """What is scaled exists, leaves its replicas to the autoscaler, and asks for the resource that
    is measured."""
    for scaler in rendered.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler.body["spec"]["scaleTargetRef"]
        thing = rendered.find(target.get("kind", "Deployment"), target["name"])
        if thing is None:
            yield scaler.finding(
                "spec.scaleTargetRef", f"there is no {target['kind']} {target['name']}"
            )
            continue
        # Two who set the replicas would undo each other at every apply.
        if "replicas" in thing.body["spec"]:
            yield thing.finding(
                "spec.replicas", f"{scaler.kind} {scaler.name} sets them: leave them out"
            )
        # A share of a request that is not there cannot be measured.
        metrics = scaler.body["spec"].get("metrics", [])
        for name in [
            metric["resource"]["name"] for metric in metrics if metric["type"] == "Resource"
        ]:
            requests = [
                container.get("resources", {}).get("requests", {}) for container in thing.containers
            ]
            if any(name not in requested for requested in requests):
                yield scaler.finding(
                    "spec.metrics", f"{name}: not every container of {thing.name} requests it"
                )


def pod_monitors(rendered: Rendered) -> Iterator[str]:
    """What the Prometheus operator is told to scrape are the pods of one workload, on a port that
    they have."""
    for monitor in rendered.of("PodMonitor"):
        pods = rendered.selected(monitor.body["spec"]["selector"])
        if len(pods) != 1:
            yield monitor.finding(
                "spec.selector", f"takes the pods of {len(pods)} workloads, must take those of one"
            )
        for endpoint in monitor.body["spec"]["podMetricsEndpoints"]:
            for pod in pods:
                if pod.port(endpoint["port"]) is None:
                    message = f"port {endpoint['port']}: the pods of {pod.name} have no such port"
                    yield monitor.finding("spec.podMetricsEndpoints", message)


def ingresses(rendered: Rendered) -> Iterator[str]:
    """What comes in from outside comes over TLS, under a name that its certificate is for, and goes
    to a port that a Service has."""
    for ingress in rendered.of("Ingress"):
        spec = ingress.body["spec"]
        covered = {host for tls in spec.get("tls", []) for host in tls.get("hosts", [])}
        for rule in spec["rules"]:
            if rule.get("host") not in covered:
                yield ingress.finding("spec.tls", f"covers no host {rule.get('host')}")
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = rendered.find("Service", backend["name"])
                ports = service.body["spec"]["ports"] if service else []
                if backend["port"].get("name") not in {port.get("name") for port in ports}:
                    message = f"there is no Service {backend['name']} with port {backend['port']}"
                    yield ingress.finding("spec.rules", message)


def stateful_names(rendered: Rendered) -> Iterator[str]:
    """A StatefulSet's serviceName is a headless Service."""
    for thing in rendered.of("StatefulSet"):
        name = thing.body["spec"].get("serviceName", "")
        service = rendered.find("Service", name)
        if service is None or service.body["spec"].get("clusterIP") != "None":
            yield thing.finding("spec.serviceName", f"there is no headless Service {name!r}")


def spread(rendered: Rendered) -> Iterator[str]:
    """Pods are spread among their own kind."""
    for thing in rendered.workloads:
        for rule in thing.pod.get("topologySpreadConstraints", []):
            if thing not in rendered.selected(rule["labelSelector"]):
                yield thing.finding(
                    "topologySpreadConstraints.labelSelector", "does not take these pods themselves"
                )


def variables(rendered: Rendered) -> Iterator[str]:
    """Every ConfigMap, Secret and key that a container's environment reads is there."""
    for thing in rendered.with_pods:
        for container in thing.containers:
            for variable in container.get("env", []):
                field = f"containers[{container['name']}].env[{variable['name']}]"
                for kind, way in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                    if source := variable.get("valueFrom", {}).get(way):
                        yield from _missing(
                            rendered, thing, field, kind, source["name"], [source["key"]]
                        )
            for entry in container.get("envFrom", []):
                field = f"containers[{container['name']}].envFrom"
                for kind, way in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    if source := entry.get(way):
                        yield from _missing(rendered, thing, field, kind, source["name"], [])


def volumes(rendered: Rendered) -> Iterator[str]:
    """Every ConfigMap, Secret, key and claim that a volume is made of is there."""
    for thing in rendered.with_pods:
        for volume in thing.pod.get("volumes", []):
            field = f"volumes[{volume['name']}]"
            for kind, key, name in (
                ("ConfigMap", "configMap", "name"),
                ("Secret", "secret", "secretName"),
            ):
                if key in volume:
                    items = [item["key"] for item in volume[key].get("items", [])]
                    yield from _missing(rendered, thing, field, kind, volume[key][name], items)
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and rendered.find("PersistentVolumeClaim", claim) is None:
                yield thing.finding(field, f"there is no PersistentVolumeClaim {claim}")


def accounts(rendered: Rendered) -> Iterator[str]:
    """Accounts, roles and the objects that a role names exist."""
    for thing in rendered.with_pods:
        # Every namespace has an account `default`.
        name = thing.pod.get("serviceAccountName", "default")
        if name != "default" and rendered.find("ServiceAccount", name) is None:
            yield thing.finding("serviceAccountName", f"there is no ServiceAccount {name}")
    for binding in rendered.of("RoleBinding"):
        # Kubernetes takes bindings to what does not exist: the rights are simply missing.
        role = binding.body["roleRef"]
        if rendered.find(role["kind"], role["name"]) is None:
            yield binding.finding("roleRef", f"there is no {role['kind']} {role['name']}")
        for subject in binding.body.get("subjects", []):
            account = rendered.find("ServiceAccount", subject["name"])
            if account is None or account.body["metadata"].get("namespace") != subject.get(
                "namespace"
            ):
                yield binding.finding(
                    "subjects", f"there is no ServiceAccount {subject['name']} in its namespace"
                )
    # A misspelt name would be a right to nothing, which shows only when it is needed.
    for role in rendered.of("Role"):
        for rule in role.body["rules"]:
            for resource in rule["resources"]:
                for name in set(rule.get("resourceNames", [])) - set(KUBEFLOWS):
                    if resource in RESOURCES and rendered.find(RESOURCES[resource], name) is None:
                        yield role.finding(
                            "rules.resourceNames", f"there is no {RESOURCES[resource]} {name}"
                        )
                if "*" in (resource, *rule["verbs"], *rule["apiGroups"]):
                    yield role.finding("rules", "a star gives rights that nobody needs: name them")


def namespaces(rendered: Rendered) -> Iterator[str]:
    """Everything lies in one namespace: claims, policies and selectors do not reach across."""
    names = [thing.body["metadata"].get("namespace") for thing in rendered.objects]
    usual, _ = Counter(names).most_common(1)[0]
    for thing, name in zip(rendered.objects, names, strict=True):
        if name is None or name != usual:
            yield thing.finding(
                "metadata.namespace", f"is {name}, the others' is {usual}: it must be one for all"
            )


def _missing(
    rendered: Rendered, thing: KubeObject, field: str, kind: str, name: str, keys: list[str]
) -> Iterator[str]:
    present: Any
    if kind == "Secret":
        # Secrets are never in these files: the operator makes them, and declares their keys.
        present = rendered.secrets.get(name)
        where = "k8s/operator.yaml"
    else:
        config_map = rendered.find(kind, name)
        present = None
        if config_map is not None:
            present = {**config_map.body.get("data", {}), **config_map.body.get("binaryData", {})}
        where = "these files"
    # Without the object, its keys are not worth a finding each.
    if present is None:
        yield thing.finding(field, f"there is no {kind} {name} in {where}")
        return
    for key in keys:
        if key not in present:
            yield thing.finding(field, f"{kind} {name} has no key {key}")


CHECKS = (
    schemas,
    own_pods,
    services,
    budgets,
    autoscalers,
    pod_monitors,
    ingresses,
    stateful_names,
    spread,
    variables,
    volumes,
    accounts,
    namespaces,
)
