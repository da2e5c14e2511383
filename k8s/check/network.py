"""Network policies: what must pass does, and Triton is the router's alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from k8s.check.render import CRON_JOB, KubeObject, Rendered, matches

PART = "app.kubernetes.io/component"
# Where pods ask for names: what a policy calls them, and the port of the pods behind.
RESOLVERS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("the cluster's DNS", {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}, 53),
    ("NodeLocal DNSCache", {"ipBlock": {"cidr": "169.254.20.10/32"}}, 53),
    (
        "OpenShift's DNS",
        {"podSelector": {"matchLabels": {"dns.operator.openshift.io/daemonset-dns": "default"}}},
        5353,
    ),
)


@dataclass(frozen=True)
class Flow:
    """`source` is configured to call port `port` of the Service `service`; `field` says where."""

    source: KubeObject
    service: KubeObject
    port: int
    field: str


def flows(rendered: Rendered) -> Iterator[Flow]:
    """Every `service:port` in the environment of a workload or in a ConfigMap that it mounts."""
    services = {service.name: service for service in rendered.of("Service")}
    # Whole names only: my-router:8080 and router.example:8080 are not the Service router.
    pattern = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, services))}):(\d+)(?!\d)")
    for thing in rendered.workloads:
        texts = [
            (f"containers[{container['name']}].env[{variable['name']}]", variable.get("value", ""))
            for container in thing.containers
            for variable in container.get("env", [])
        ]
        for volume in thing.pod.get("volumes", []):
            # A ConfigMap that is mounted configures just as the environment does.
            config_map = rendered.find("ConfigMap", volume.get("configMap", {}).get("name", ""))
            data = config_map.body.get("data", {}) if config_map else {}
            texts += [(f"volumes[{volume['name']}] ({name})", text) for name, text in data.items()]
        for field, text in texts:
            for name, port in pattern.findall(text):
                yield Flow(thing, services[name], int(port), field)


def selectors(rendered: Rendered) -> Iterator[str]:
    """A policy takes pods that are there, and lets in or out pods that are there or that the
    operator declared."""
    for policy in rendered.of("NetworkPolicy"):
        spec = policy.body["spec"]
        if not rendered.selected(spec["podSelector"]):
            yield policy.finding("spec.podSelector", "takes no pods")
        # Both directions name their pods alike, under another key.
        peers = [
            (direction, peer)
            for direction, key in (("ingress", "from"), ("egress", "to"))
            for rule in spec.get(direction, [])
            for peer in rule.get(key, [])
        ]
        for direction, peer in peers:
            selector = peer.get("podSelector")
            outside = any(matches(selector or {}, labels) for labels in rendered.peers)
            if selector is not None and not rendered.selected(selector) and not outside:
                yield policy.finding(
                    f"spec.{direction}", f"{selector} takes no pods, nor peers in k8s/operator.yaml"
                )


def ports(rendered: Rendered) -> Iterator[str]:
    """A policy's ports are ports of the pods that receive."""
    for policy in rendered.of("NetworkPolicy"):
        spec = policy.body["spec"]
        pods = rendered.selected(spec["podSelector"])
        for rule in spec.get("ingress", []):
            yield from _closed(policy, "spec.ingress", rule, pods)
        for rule in spec.get("egress", []):
            inside = [
                peer["podSelector"]
                for peer in rule.get("to", [])
                if not {"namespaceSelector", "ipBlock"} & peer.keys()
            ]
            for selector in inside:
                yield from _closed(policy, "spec.egress", rule, rendered.selected(selector))


def denied_first(rendered: Rendered) -> Iterator[str]:
    """Every pod is under a policy that denies both directions, so that only what is written
    passes."""
    denying = [
        policy.body["spec"]["podSelector"]
        for policy in rendered.of("NetworkPolicy")
        if {"Ingress", "Egress"} <= set(policy.body["spec"].get("policyTypes", []))
        and not policy.body["spec"].get("ingress")
        and not policy.body["spec"].get("egress")
    ]
    for thing in rendered.with_pods:
        # A job in the place of a step of the pipeline is none of our pods (base/network.yaml).
        if thing.kind == CRON_JOB and any(
            peer.items() <= thing.labels.items() for peer in rendered.peers
        ):
            continue
        if not any(matches(selector, thing.labels) for selector in denying):
            yield thing.finding(
                "template.metadata.labels", "no NetworkPolicy denies these pods everything first"
            )


def let_through(rendered: Rendered) -> Iterator[str]:
    """What a workload is configured to call: the Service has that port, and the policies of both
    ends open it."""
    for flow in flows(rendered):
        target = next(
            (port for port in flow.service.body["spec"]["ports"] if port["port"] == flow.port), None
        )
        if target is None:
            yield flow.source.finding(
                flow.field, f"Service {flow.service.name} has no port {flow.port}"
            )
            continue
        for pod in rendered.selected({"matchLabels": flow.service.body["spec"]["selector"]}):
            # Policies see the port of the pod, not that of the Service in front.
            number = pod.port(target.get("targetPort", flow.port))
            if number is None:  # the check of Services says so
                continue
            # Both ends have policies, and either one alone keeps the other out.
            if not _open(rendered, "egress", flow.source, pod, number):
                yield flow.source.finding(
                    flow.field, f"no NetworkPolicy lets it out to {pod.name}, port {number}"
                )
            if not _open(rendered, "ingress", pod, flow.source, number):
                yield flow.source.finding(
                    flow.field, f"no NetworkPolicy of {pod.name} lets it in to port {number}"
                )


def names_resolve(rendered: Rendered) -> Iterator[str]:
    """Who calls a Service by name may ask for its address, whichever resolver the cluster has."""
    for source in {flow.source.name: flow.source for flow in flows(rendered)}.values():
        rules = [
            rule
            for policy in _policies(rendered, source, "Egress")
            for rule in policy.body["spec"].get("egress", [])
        ]
        for name, peer, number in RESOLVERS:
            # A resolver is asked over UDP, and over TCP when the answer is long.
            open_ports = {
                (port.get("protocol", "TCP"), port["port"])
                for rule in rules
                if any(peer.items() <= allowed.items() for allowed in rule.get("to", []))
                for port in rule.get("ports", [])
            }
            if not {("UDP", number), ("TCP", number)} <= open_ports:
                message = f"no NetworkPolicy lets it ask {name} ({number})"
                yield source.finding("spec", f"calls a Service by name, but {message}")


def reachable(rendered: Rendered) -> Iterator[str]:
    """Every port of a Service is let in from somewhere."""
    for service in rendered.of("Service"):
        for port in service.body["spec"]["ports"]:
            for pod in rendered.selected({"matchLabels": service.body["spec"]["selector"]}):
                number = pod.port(port.get("targetPort", port["port"]))
                policies = _policies(rendered, pod, "Ingress")
                rules = [
                    rule for policy in policies for rule in policy.body["spec"].get("ingress", [])
                ]
                if number is not None and not any(_has_port(rule, pod, number) for rule in rules):
                    yield service.finding(
                        "spec.ports", f"no NetworkPolicy lets anybody in to port {number}"
                    )


def triton_is_the_routers(rendered: Rendered) -> Iterator[str]:
    """Triton has no password: nobody but the router reaches more of it than its figures."""
    for thing in rendered.workloads:
        if thing.labels.get(PART) != "triton":
            continue
        for policy in _policies(rendered, thing, "Ingress"):
            for rule in policy.body["spec"].get("ingress", []):
                # Others may read the figures, such as Prometheus, but nothing beside them.
                if {thing.port(port["port"]) for port in rule.get("ports", [])} == {
                    thing.port("metrics")
                }:
                    continue
                # A rule without `from` lets in everybody; so might a selector of namespaces.
                for peer in rule.get("from", [{}]):
                    labels = peer.get("podSelector", {}).get("matchLabels", {})
                    if labels.get(PART) != "router" or "namespaceSelector" in peer:
                        yield policy.finding(
                            "spec.ingress", f"lets {peer or 'everybody'} in to Triton"
                        )


def _closed(
    policy: KubeObject, field: str, rule: dict[str, Any], pods: list[KubeObject]
) -> Iterator[str]:
    for port in rule.get("ports", []):
        for pod in pods:
            if pod.port(port["port"]) is None:
                yield policy.finding(
                    field, f"port {port['port']}: the pods of {pod.name} have no such port"
                )


def _policies(rendered: Rendered, thing: KubeObject, kind: str) -> list[KubeObject]:
    """The policies over the pods of `thing` for Ingress or Egress."""
    return [
        policy
        for policy in rendered.of("NetworkPolicy")
        if kind in policy.body["spec"].get("policyTypes", ["Ingress"])
        and matches(policy.body["spec"]["podSelector"], thing.labels)
    ]


def _open(
    rendered: Rendered, direction: str, pods: KubeObject, peer: KubeObject, port: int
) -> bool:
    """Whether the policies over `pods` let them call `peer` (egress) or hear it (ingress) on the
    receiver's port."""
    policies = _policies(rendered, pods, direction.capitalize())
    key, receiver = ("to", peer) if direction == "egress" else ("from", pods)
    rules = [rule for policy in policies for rule in policy.body["spec"].get(direction, [])]
    for rule in rules:
        # Both lie in the policy's own namespace; a rule without ends means all pods.
        ends = rule.get(key)
        takes = not ends or any(
            not {"namespaceSelector", "ipBlock"} & end.keys()
            and matches(end.get("podSelector", {}), peer.labels)
            for end in ends
        )
        if takes and _has_port(rule, receiver, port):
            return True
    return not policies


def _has_port(rule: dict[str, Any], receiver: KubeObject, port: int) -> bool:
    ports = rule.get("ports")
    return not ports or any(receiver.port(entry["port"]) == port for entry in ports)


CHECKS = (
    selectors,
    ports,
    denied_first,
    let_through,
    names_resolve,
    reachable,
    triton_is_the_routers,
)
