"""Names and selectors: whatever one object says of another must be there."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from k8s.check.render import Rendered, Thing

RESOURCES = {"deployments": "Deployment", "statefulsets": "StatefulSet", "configmaps": "ConfigMap"}


def own_pods(all_: Rendered) -> Iterator[str]:
    """A workload's selector takes its own pods, and nobody else's."""
    for thing in all_.workloads:
        taken = {other.name for other in all_.selected(thing.body["spec"].get("selector", {}))}
        if taken != {thing.name}:
            told = ", ".join(sorted(taken)) or "no pods"
            yield thing.finding("spec.selector", f"takes {told}, must take the pods of {thing.name} alone")


def services(all_: Rendered) -> Iterator[str]:
    """A Service takes pods that have its target ports."""
    for service in all_.of("Service"):
        pods = all_.selected({"matchLabels": service.body["spec"].get("selector", {})})
        if len(pods) != 1:
            yield service.finding("spec.selector", f"takes the pods of {len(pods)} workloads, must take those of one")
        for each in service.body["spec"]["ports"]:
            target = each.get("targetPort", each["port"])
            for pod in pods:
                if pod.port(target) is None:
                    message = f"targetPort {target}: the pods of {pod.name} have no such port"
                    yield service.finding("spec.ports", message)


def budgets(all_: Rendered) -> Iterator[str]:
    """A PodDisruptionBudget takes the pods of one workload."""
    for budget in all_.of("PodDisruptionBudget"):
        taken = all_.selected(budget.body["spec"]["selector"])
        if len(taken) != 1:
            yield budget.finding("spec.selector", f"takes the pods of {len(taken)} workloads, must take those of one")


def autoscalers(all_: Rendered) -> Iterator[str]:
    """What is scaled exists, leaves its replicas to the autoscaler, and asks for the resource that is measured."""
    for scaler in all_.of("HorizontalPodAutoscaler"):
        target = scaler.body["spec"]["scaleTargetRef"]
        thing = all_.find(target["kind"], target["name"])
        if thing is None:
            yield scaler.finding("spec.scaleTargetRef", f"there is no {target['kind']} {target['name']}")
            continue
        if "replicas" in thing.body["spec"]:
            yield thing.finding("spec.replicas", f"HorizontalPodAutoscaler {scaler.name} sets them: leave them out")
        measured = [each["resource"]["name"] for each in scaler.body["spec"]["metrics"] if each["type"] == "Resource"]
        for name in measured:
            if any(name not in _asked(container) for container in thing.containers):
                yield scaler.finding("spec.metrics", f"{name}: not every container of {thing.name} requests it")


def stateful_names(all_: Rendered) -> Iterator[str]:
    """A StatefulSet's serviceName is a headless Service."""
    for thing in all_.of("StatefulSet"):
        name = thing.body["spec"].get("serviceName", "")
        service = all_.find("Service", name)
        if service is None or service.body["spec"].get("clusterIP") != "None":
            yield thing.finding("spec.serviceName", f"there is no headless Service {name!r}")


def spread(all_: Rendered) -> Iterator[str]:
    """Pods are spread among their own kind."""
    for thing in all_.workloads:
        for rule in thing.pod.get("topologySpreadConstraints", []):
            if thing not in all_.selected(rule["labelSelector"]):
                yield thing.finding("topologySpreadConstraints.labelSelector", "does not take these pods themselves")


def variables(all_: Rendered) -> Iterator[str]:
    """Every ConfigMap, Secret and key that a container's environment reads is there."""
    for thing in all_.workloads:
        for container in thing.containers:
            for variable in container.get("env", []):
                field = f"containers[{container['name']}].env[{variable['name']}]"
                for kind, way in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                    if source := variable.get("valueFrom", {}).get(way):
                        yield from _missing(all_, thing, field, kind, source["name"], [source["key"]])
            for each in container.get("envFrom", []):
                field = f"containers[{container['name']}].envFrom"
                for kind, way in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    if source := each.get(way):
                        yield from _missing(all_, thing, field, kind, source["name"], [])


def volumes(all_: Rendered) -> Iterator[str]:
    """Every ConfigMap, Secret, key and claim that a volume is made of is there."""
    for thing in all_.workloads:
        for volume in thing.pod.get("volumes", []):
            field = f"volumes[{volume['name']}]"
            for kind, key, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
                if key in volume:
                    items = [item["key"] for item in volume[key].get("items", [])]
                    yield from _missing(all_, thing, field, kind, volume[key][name], items)
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and all_.find("PersistentVolumeClaim", claim) is None:
                yield thing.finding(field, f"there is no PersistentVolumeClaim {claim}")


def accounts(all_: Rendered) -> Iterator[str]:
    """Accounts, roles and the objects that a role names exist."""
    for thing in all_.workloads:
        name = thing.pod.get("serviceAccountName", "default")
        if name != "default" and all_.find("ServiceAccount", name) is None:
            yield thing.finding("serviceAccountName", f"there is no ServiceAccount {name}")
    for binding in all_.of("RoleBinding"):
        role = binding.body["roleRef"]
        if all_.find(role["kind"], role["name"]) is None:
            yield binding.finding("roleRef", f"there is no {role['kind']} {role['name']}")
        for subject in binding.body.get("subjects", []):
            account = all_.find("ServiceAccount", subject["name"])
            if account is None or account.body["metadata"].get("namespace") != subject.get("namespace"):
                yield binding.finding("subjects", f"there is no ServiceAccount {subject['name']} in its namespace")
    for role in all_.of("Role"):
        for rule in role.body["rules"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", []):
                    if resource in RESOURCES and all_.find(RESOURCES[resource], name) is None:
                        yield role.finding("rules.resourceNames", f"there is no {RESOURCES[resource]} {name}")
                if "*" in (resource, *rule["verbs"], *rule["apiGroups"]):
                    yield role.finding("rules", "a star gives rights that nobody needs: name them")


def namespaces(all_: Rendered) -> Iterator[str]:
    """Everything lies in one namespace: claims, policies and selectors do not reach across."""
    told = [thing.body["metadata"].get("namespace") for thing in all_.things]
    usual, _ = Counter(told).most_common(1)[0]
    for thing, name in zip(all_.things, told, strict=True):
        if name is None or name != usual:
            yield thing.finding("metadata.namespace", f"is {name}, the others' is {usual}: it must be one for all")


def _missing(all_: Rendered, thing: Thing, field: str, kind: str, name: str, keys: list[str]) -> Iterator[str]:
    known: Any
    if kind == "Secret":
        known = all_.secrets.get(name)
        where = "k8s/operator.yaml"
    else:
        found = all_.find(kind, name)
        known = None if found is None else {**found.body.get("data", {}), **found.body.get("binaryData", {})}
        where = "these files"
    if known is None:
        yield thing.finding(field, f"there is no {kind} {name} in {where}")
        return
    for key in keys:
        if key not in known:
            yield thing.finding(field, f"{kind} {name} has no key {key}")


def _asked(container: dict[str, Any]) -> dict[str, Any]:
    return dict(container.get("resources", {}).get("requests", {}))


CHECKS = (own_pods, services, budgets, autoscalers, stateful_names, spread, variables, volumes, accounts, namespaces)
