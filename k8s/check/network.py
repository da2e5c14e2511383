"""Network policies: what must pass does, and Triton is the router's alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from k8s.check.render import Rendered, Thing, matches

PART = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Flow:
    """`source` is configured to call port `port` of the Service `service`; `field` says where."""

    source: Thing
    service: Thing
    port: int
    field: str


def flows(all_: Rendered) -> Iterator[Flow]:
    """Every `service:port` in the environment of a workload or in a ConfigMap that it mounts."""
    services = {service.name: service for service in all_.of("Service")}
    pattern = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, services))}):(\d+)(?!\d)")
    for thing in all_.workloads:
        texts = [
            (f"containers[{container['name']}].env[{variable['name']}]", variable.get("value", ""))
            for container in thing.containers
            for variable in container.get("env", [])
        ]
        for volume in thing.pod.get("volumes", []):
            found = all_.find("ConfigMap", volume.get("configMap", {}).get("name", ""))
            data = found.body.get("data", {}) if found else {}
            texts += [(f"volumes[{volume['name']}] ({name})", text) for name, text in data.items()]
        for field, text in texts:
            for name, port in pattern.findall(text):
                yield Flow(thing, services[name], int(port), field)


def selectors(all_: Rendered) -> Iterator[str]:
    """A policy takes pods that are there, and lets in or out pods that are there or that the operator declared."""
    for policy in all_.of("NetworkPolicy"):
        spec = policy.body["spec"]
        if not all_.selected(spec["podSelector"]):
            yield policy.finding("spec.podSelector", "takes no pods")
        for direction, peer in _peers(spec):
            selector = peer.get("podSelector")
            outside = any(matches(selector or {}, labels) for labels in all_.peers)
            if selector is not None and not all_.selected(selector) and not outside:
                yield policy.finding(f"spec.{direction}", f"{selector} takes no pods, nor peers in k8s/operator.yaml")


def ports(all_: Rendered) -> Iterator[str]:
    """A policy's ports are ports of the pods that receive."""
    for policy in all_.of("NetworkPolicy"):
        spec = policy.body["spec"]
        own = all_.selected(spec["podSelector"])
        for rule in spec.get("ingress", []):
            yield from _closed(policy, "spec.ingress", rule, own)
        for rule in spec.get("egress", []):
            inside = [peer["podSelector"] for peer in rule.get("to", []) if "namespaceSelector" not in peer]
            for selector in inside:
                yield from _closed(policy, "spec.egress", rule, all_.selected(selector))


def denied_first(all_: Rendered) -> Iterator[str]:
    """Every pod is under a policy that denies both directions, so that only what is written passes."""
    denying = [
        policy.body["spec"]["podSelector"]
        for policy in all_.of("NetworkPolicy")
        if {"Ingress", "Egress"} <= set(policy.body["spec"].get("policyTypes", []))
        and not policy.body["spec"].get("ingress")
        and not policy.body["spec"].get("egress")
    ]
    for thing in all_.workloads:
        if not any(matches(selector, thing.labels) for selector in denying):
            yield thing.finding("template.metadata.labels", "no NetworkPolicy denies these pods everything first")


def let_through(all_: Rendered) -> Iterator[str]:
    """What a workload is configured to call: the Service has that port, and the policies of both ends open it."""
    for flow in flows(all_):
        target = next((each for each in flow.service.body["spec"]["ports"] if each["port"] == flow.port), None)
        if target is None:
            yield flow.source.finding(flow.field, f"Service {flow.service.name} has no port {flow.port}")
            continue
        for pod in all_.selected({"matchLabels": flow.service.body["spec"]["selector"]}):
            number = pod.port(target.get("targetPort", flow.port))
            if number is None:  # the check of Services says so
                continue
            if not _open(all_, "egress", flow.source, pod, number):
                yield flow.source.finding(flow.field, f"no NetworkPolicy lets it out to {pod.name}, port {number}")
            if not _open(all_, "ingress", pod, flow.source, number):
                yield flow.source.finding(flow.field, f"no NetworkPolicy of {pod.name} lets it in to port {number}")


def names_resolve(all_: Rendered) -> Iterator[str]:
    """Who calls a Service by name may ask for its address."""
    for source in {flow.source.name: flow.source for flow in flows(all_)}.values():
        rules = [
            rule
            for policy in _policies(all_, source, "Egress")
            for rule in policy.body["spec"].get("egress", [])
            if any(matches(peer.get("podSelector", {}), {"k8s-app": "kube-dns"}) for peer in rule.get("to", [{}]))
        ]
        asked = {(port.get("protocol", "TCP"), port["port"]) for rule in rules for port in rule.get("ports", [])}
        if not {("UDP", 53), ("TCP", 53)} <= asked:
            yield source.finding("spec", "calls a Service by name, but no NetworkPolicy lets it ask the DNS (53)")


def reachable(all_: Rendered) -> Iterator[str]:
    """Every port of a Service is let in from somewhere."""
    for service in all_.of("Service"):
        for each in service.body["spec"]["ports"]:
            for pod in all_.selected({"matchLabels": service.body["spec"]["selector"]}):
                number = pod.port(each.get("targetPort", each["port"]))
                policies = _policies(all_, pod, "Ingress")
                rules = [rule for policy in policies for rule in policy.body["spec"].get("ingress", [])]
                if number is not None and not any(_has_port(rule, pod, number) for rule in rules):
                    yield service.finding("spec.ports", f"no NetworkPolicy lets anybody in to port {number}")


def triton_is_the_routers(all_: Rendered) -> Iterator[str]:
    """Triton has no password: nobody but the router reaches more of it than its figures."""
    for thing in all_.workloads:
        if thing.labels.get(PART) != "triton":
            continue
        for policy in _policies(all_, thing, "Ingress"):
            for rule in policy.body["spec"].get("ingress", []):
                if {thing.port(each["port"]) for each in rule.get("ports", [])} == {thing.port("metrics")}:
                    continue
                for peer in rule.get("from", [{}]):
                    told = peer.get("podSelector", {}).get("matchLabels", {})
                    if told.get(PART) != "router" or "namespaceSelector" in peer:
                        yield policy.finding("spec.ingress", f"lets {peer or 'everybody'} in to Triton")


def _peers(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction, []):
            for peer in rule.get(key, []):
                yield direction, peer


def _closed(policy: Thing, field: str, rule: dict[str, Any], pods: list[Thing]) -> Iterator[str]:
    for each in rule.get("ports", []):
        for pod in pods:
            if pod.port(each["port"]) is None:
                yield policy.finding(field, f"port {each['port']}: the pods of {pod.name} have no such port")


def _policies(all_: Rendered, thing: Thing, kind: str) -> list[Thing]:
    """The policies over the pods of `thing` for Ingress or Egress."""
    return [
        policy
        for policy in all_.of("NetworkPolicy")
        if kind in policy.body["spec"].get("policyTypes", ["Ingress"])
        and matches(policy.body["spec"]["podSelector"], thing.labels)
    ]


def _open(all_: Rendered, direction: str, own: Thing, peer: Thing, port: int) -> bool:
    """Whether the policies over `own` let it speak (egress) to `peer` or hear it (ingress) on the receiver's port."""
    policies = _policies(all_, own, direction.capitalize())
    key, receiver = ("to", peer) if direction == "egress" else ("from", own)
    rules = [rule for policy in policies for rule in policy.body["spec"].get(direction, [])]
    return not policies or any(_takes(rule.get(key), peer) and _has_port(rule, receiver, port) for rule in rules)


def _takes(peers: list[dict[str, Any]] | None, thing: Thing) -> bool:
    """Whether a rule's peers hold the pods of `thing`, which lie in the policy's own namespace; no peers mean all."""
    if not peers:
        return True
    return any("namespaceSelector" not in peer and matches(peer.get("podSelector", {}), thing.labels) for peer in peers)


def _has_port(rule: dict[str, Any], receiver: Thing, port: int) -> bool:
    told = rule.get("ports")
    return not told or any(receiver.port(each["port"]) == port for each in told)


CHECKS = (selectors, ports, denied_first, let_through, names_resolve, reachable, triton_is_the_routers)
