"""What is wrong with rendered manifests: one function a rule, each giving sentences; none when all is in order."""

import re
from collections.abc import Callable, Iterator

from tests.deploy.dockerfile import pinned
from tests.deploy.kubernetes import (
    NAMESPACE,
    Document,
    Documents,
    Pods,
    called,
    find,
    of_kind,
    pods,
    selects,
    variables,
)

_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$|DATABASE_URL|REDIS_URL")
_LITERAL = re.compile(r"--(?:api-key|password|token)\b")
_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim"}  # of the restricted profile's list, those that are used
_LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
_GPU = "nvidia.com/gpu"


def images(documents: Documents) -> list[str]:
    """Every image has a version."""
    return [
        f"{made.name}: image {container['image']} is not pinned"
        for made in pods(documents)
        for container in made.containers
        if not pinned(container["image"])
    ]


def names(documents: Documents) -> list[str]:
    """Everything lies in the namespace, and nothing is there twice."""
    found, seen = [], set()
    for document in documents:
        key = (document["kind"], document["metadata"]["name"])
        if document["kind"] == "Namespace":
            profile = document["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
            found += [] if profile == "restricted" else [f"{called(document)}: enforces {profile}"]
        elif document["metadata"].get("namespace") != NAMESPACE:
            found.append(f"{called(document)}: lies in another namespace")
        found += [f"{called(document)}: is there twice"] if key in seen else []
        seen.add(key)
    return found


def selectors(documents: Documents) -> list[str]:
    """Every selector fits pods that are there, and a workload's selector its own."""
    made = pods(documents)
    found = [
        f"{called(each.document)}: selects pods of other labels than its own"
        for each in made
        if not selects(each.document["spec"]["selector"], each.labels)
    ]
    for document, selector in _selectors(documents):
        if not any(selects(selector, each.labels) for each in made):
            found.append(f"{called(document)}: selects no pod")
    return found


def _selectors(documents: Documents) -> Iterator[tuple[Document, Document]]:
    for document in of_kind(documents, "PodDisruptionBudget", "PodMonitor"):
        yield document, document["spec"]["selector"]
    for document in of_kind(documents, "Service"):
        yield document, {"matchLabels": document["spec"]["selector"]}
    for document in of_kind(documents, "NetworkPolicy"):
        yield document, document["spec"]["podSelector"]
        peers = [entry for rule in document["spec"].get("ingress", []) for entry in rule.get("from", [])]
        peers += [entry for rule in document["spec"].get("egress", []) for entry in rule.get("to", [])]
        for peer in peers:
            if "podSelector" in peer and "namespaceSelector" not in peer:
                yield document, peer["podSelector"]
    for each in pods(documents):
        for spread in each.spec.get("topologySpreadConstraints", []):
            yield each.document, spread["labelSelector"]


def ports(documents: Documents) -> list[str]:
    """Every port that something names is one of the pods it is about."""
    found = []
    for document in of_kind(documents, "Service", "PodMonitor"):
        spec = document["spec"]
        selector = {"matchLabels": spec["selector"]} if document["kind"] == "Service" else spec["selector"]
        wanted = [
            entry.get("targetPort", entry["port"]) for entry in spec.get("ports", spec.get("podMetricsEndpoints"))
        ]
        for each in pods(documents):
            if selects(selector, each.labels):
                known = {*each.ports, *each.ports.values()}
                found += [f"{called(document)}: {each.name} has no port {port}" for port in wanted if port not in known]
    return found


def volumes(documents: Documents) -> list[str]:
    """Every mount has a volume, every volume what it is made from, and no folder of the node is one."""
    found = []
    for each in pods(documents):
        claimed = {claim["metadata"]["name"] for claim in each.document["spec"].get("volumeClaimTemplates", [])}
        known = {volume["name"] for volume in each.spec.get("volumes", [])} | claimed
        for volume in each.spec.get("volumes", []):
            kind = next(iter(set(volume) - {"name"}))
            if kind not in _VOLUMES:
                found.append(f"{each.name}: volume {volume['name']} is a {kind}")
            elif kind == "configMap" and find(documents, "ConfigMap", volume[kind]["name"]) is None:
                found.append(f"{each.name}: there is no ConfigMap {volume[kind]['name']}")
        for container in each.containers:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            found += [f"{each.name}: there is no volume {name}" for name in sorted(mounted - known)]
    return found


def references(documents: Documents) -> list[str]:
    """Accounts and headless Services are there; no pod gets a token or other Services' addresses as variables."""
    found = []
    for each in pods(documents):
        account = find(documents, "ServiceAccount", each.spec.get("serviceAccountName", "default"))
        if account is None:
            found.append(f"{each.name}: has no ServiceAccount of its own")
        elif account.get("automountServiceAccountToken") is not False:
            found.append(f"{called(account)}: mounts its token")
        if each.spec.get("automountServiceAccountToken") is not False:
            found.append(f"{each.name}: mounts a token")
        if each.spec.get("enableServiceLinks") is not False:
            found.append(f"{each.name}: gets variables named after Services, which are taken for settings")
        if each.document["kind"] == "StatefulSet" and not _headless(documents, each):
            found.append(f"{each.name}: its serviceName is no headless Service of its pods")
    return found


def _headless(documents: Documents, each: Pods) -> bool:
    service = find(documents, "Service", each.document["spec"]["serviceName"])
    return (
        service is not None
        and service["spec"].get("clusterIP") == "None"
        and selects({"matchLabels": service["spec"]["selector"]}, each.labels)
    )


def scaling(documents: Documents) -> list[str]:
    """What scales is there, one for each workload, and nobody else says how many there are."""
    found, scaled = [], set()
    for scaler in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        workload = find(documents, target.get("kind", "Deployment"), target["name"])
        least = scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount", 0))
        most = scaler["spec"].get("maxReplicas", scaler["spec"].get("maxReplicaCount", 100))
        if workload is None:
            found.append(f"{called(scaler)}: there is no {target.get('kind', 'Deployment')} {target['name']}")
        elif "replicas" in workload["spec"]:
            found.append(f"{called(workload)}: sets replicas, which {called(scaler)} sets too")
        if target["name"] in scaled:
            found.append(f"{called(scaler)}: {target['name']} is scaled by another one")
        if not 1 <= least <= most:
            found.append(f"{called(scaler)}: scales from {least} to {most}")
        fallback = scaler["spec"].get("fallback", {}).get("replicas", least)
        if not least <= fallback <= most:
            found.append(f"{called(scaler)}: falls back to {fallback} of {least} to {most}")
        scaled.add(target["name"])
    return found


def disruptions(documents: Documents) -> list[str]:
    """A budget lets one pod go at a time; a rollout of the gateway takes none away before another one is ready."""
    found = [
        f"{called(budget)}: does not let one pod go at a time"
        for budget in of_kind(documents, "PodDisruptionBudget")
        if budget["spec"].get("maxUnavailable") != 1  # a minimum could hold up the drain of a node for ever
    ]
    for workload in of_kind(documents, "Deployment"):
        rolling = workload["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0 or not rolling.get("maxSurge"):
            found.append(f"{called(workload)}: a rollout takes pods away before others are ready")
    return found


def security(documents: Documents) -> list[str]:
    """Every pod keeps to the restricted profile, and has a root that it cannot write."""
    found = []
    for each in pods(documents):
        context = each.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            found.append(f"{each.name}: may run as root")
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            found.append(f"{each.name}: has no seccomp profile")
        found += [
            f"{each.name}: {option} is set" for option in ("hostNetwork", "hostPID", "hostIPC") if each.spec.get(option)
        ]
        for container in each.containers:
            own = container.get("securityContext", {})
            found += [
                f"{each.name}: {name} is not {value}" for name, value in _LOCKED.items() if own.get(name) != value
            ]
            more = sorted(set(own) - set(_LOCKED))
            found += [f"{each.name}: a container has its own {name}" for name in more]
    return found


def resources(documents: Documents) -> list[str]:
    """Every container asks for CPU, memory and disk, has a limit of each, and asks for as many GPUs as it may have."""
    found = []
    for each in pods(documents):
        for container in each.containers:
            asked, most = (container.get("resources", {}).get(side, {}) for side in ("requests", "limits"))
            for name in ("cpu", "memory", "ephemeral-storage"):
                found += [] if name in asked else [f"{each.name}: requests no {name}"]
                found += [] if name in most else [f"{each.name}: has no limit of {name}"]
            if asked.get(_GPU) != most.get(_GPU):
                found.append(f"{each.name}: requests other GPUs than its limit")
    return found


def secrets(documents: Documents) -> list[str]:
    """No secret is in the manifests: each is referred to."""
    found = [f"{called(document)}: secrets are not kept here" for document in of_kind(documents, "Secret")]
    for each in pods(documents):
        for container in each.containers:
            for name, variable in variables(container).items():
                if _SECRET.search(name) and "secretKeyRef" not in variable.get("valueFrom", {}):
                    found.append(f"{each.name}: {name} is not taken from a secret")
            words = [*container.get("command", []), *container.get("args", [])]
            found += [f"{each.name}: {word} is literal" for word in words if _LITERAL.match(str(word))]
    return found


Rule = Callable[[Documents], list[str]]
RULES: tuple[Rule, ...] = (
    *(images, names, selectors, ports, volumes, references),
    *(scaling, disruptions, security, resources, secrets),
)
