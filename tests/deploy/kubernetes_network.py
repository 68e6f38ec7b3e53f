"""Who may reach whom: NetworkPolicies, evaluated as the API's reference says: they add up, and a pod without one is open."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from tests.deploy.kubernetes import NAMESPACE, Document, Documents, Labels, of_kind, pods, selects


@dataclass(frozen=True)
class Place:
    """A pod of a namespace, or an address that is none of the cluster's."""

    name: str
    labels: Labels = field(default_factory=dict)
    namespace: str = NAMESPACE
    namespace_labels: Labels = field(default_factory=dict)
    address: str = ""


def _pod(name: str, namespace: str, labels: Labels, marked: str = "") -> Place:
    known = {"kubernetes.io/metadata.name": namespace} | ({marked: "true"} if marked else {})
    return Place(name, labels, namespace, known)


CALLER = _pod("a caller", "ingress", {}, "passerelle/callers")
PROMETHEUS = _pod("Prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}, "passerelle/monitoring")
DNS = _pod("DNS", "kube-system", {"k8s-app": "kube-dns"})
STRANGER = _pod("a stranger", "default", {"app.kubernetes.io/name": "gateway"})
IMPOSTOR = _pod("Grafana", "monitoring", {"app.kubernetes.io/name": "grafana"}, "passerelle/monitoring")
NEIGHBOUR = _pod("a neighbour", NAMESPACE, {"app.kubernetes.io/name": "job"})
STATE = Place("a private address", address="10.1.2.3")
OUTSIDE = Place("the world", address="203.0.113.7")
METADATA = Place("the cloud's metadata service", address="169.254.169.254")


def network(documents: Documents, way_out: frozenset[str]) -> list[str]:
    """Nothing reaches anything but what has to; `way_out` names the workloads that may reach the world."""
    policies = of_kind(documents, "NetworkPolicy")
    return [
        f"{source.name} {'cannot' if expected else 'can'} reach {target.name} at port {port}"
        for source, target, port, expected in _wanted(documents, way_out)
        if _reaches(policies, source, target, port, both=expected) is not expected
    ]


def _wanted(documents: Documents, way_out: frozenset[str]) -> Iterator[tuple[Place, Place, int, bool]]:
    ours = {made.name: _pod(made.name, NAMESPACE, made.labels) for made in pods(documents)}
    gateway, vllm = ours["gateway"], ours["vllm"]
    for source in (gateway, CALLER, PROMETHEUS, STRANGER, IMPOSTOR, NEIGHBOUR, OUTSIDE):
        yield source, vllm, 8000, source in (gateway, PROMETHEUS)
        yield source, vllm, 22, False
    for source in (vllm, CALLER, PROMETHEUS, STRANGER, IMPOSTOR, NEIGHBOUR, OUTSIDE):
        yield source, gateway, 8000, source in (CALLER, PROMETHEUS)
    yield gateway, DNS, 53, True
    yield vllm, DNS, 53, "vllm" in way_out
    for port, expected in ((5432, True), (6379, True), (443, False), (22, False)):
        yield gateway, STATE, port, expected
        yield vllm, STATE, port, False
    for place in (gateway, vllm):
        yield place, OUTSIDE, 443, place.name in way_out
        yield place, OUTSIDE, 80, False
        yield place, METADATA, 443, False
        yield place, METADATA, 80, False
    yield NEIGHBOUR, OUTSIDE, 443, False
    yield CALLER, NEIGHBOUR, 8000, False
    yield gateway, NEIGHBOUR, 8000, False


def _reaches(policies: Documents, source: Place, target: Place, port: int, *, both: bool) -> bool:
    """By the policies of both ends. Else by those of the end that it comes to, if that is ours: whatever its sender may."""
    admitted = _permits(policies, "ingress", target, source, port)
    if not both and target.namespace == NAMESPACE and not target.address:
        return admitted
    return admitted and _permits(policies, "egress", source, target, port)


def _permits(policies: Documents, direction: str, pod: Place, other: Place, port: int) -> bool:
    if pod.namespace != NAMESPACE or pod.address:
        return True  # none of our policies is about it
    kind = direction.capitalize()
    about = [
        policy["spec"]
        for policy in policies
        if kind in policy["spec"].get("policyTypes", []) and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    rules = [rule for policy in about for rule in policy.get(direction, [])]
    side = "to" if direction == "egress" else "from"
    return not about or any(_at(rule, port) and _among(rule.get(side), other) for rule in rules)


def _at(rule: Document, port: int) -> bool:
    return "ports" not in rule or any(entry["port"] == port for entry in rule["ports"])


def _among(peers: list[Document] | None, place: Place) -> bool:
    return not peers or any(_is(peer, place) for peer in peers)  # no list is everybody


def _is(peer: Document, place: Place) -> bool:
    if block := peer.get("ipBlock"):
        if not place.address:
            return False  # pods are known by their labels
        address = ip_address(place.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(hole) for hole in block.get("except", [])
        )
    if place.address:
        return False
    there = (
        selects(peer["namespaceSelector"], place.namespace_labels)
        if "namespaceSelector" in peer
        else place.namespace == NAMESPACE
    )
    return there and selects(peer.get("podSelector", {}), place.labels)
