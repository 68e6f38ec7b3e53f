"""Is a document what its API takes? Kubernetes' own schemas, and small ones of the custom resources that are used here."""

import functools
import json
from collections.abc import Iterator
from typing import Any

from kubernetes_validate import ValidationError, validate  # type: ignore[import-untyped]

from tests.deploy.kubernetes import Document, Documents, called

VERSION = "1.37"

# The fields of custom resources that are used here, as their definitions have them (KEDA 2, Prometheus operator): a type, an
# object's fields ("" is any name), or the one shape of a list's entries. A name with a star is required.
_SELECTOR = {"matchLabels*": {"": str}}
_POLICIES = {
    "stabilizationWindowSeconds": int,
    "policies": [{"type*": str, "value*": int, "periodSeconds*": int}],
    "selectPolicy": str,
}
CUSTOM: dict[tuple[str, str], dict[str, Any]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef*": {"apiVersion": str, "kind": str, "name*": str},
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "pollingInterval": int,
        "cooldownPeriod": int,
        "fallback": {"failureThreshold*": int, "replicas*": int},
        "triggers*": [{"type*": str, "name": str, "metricType": str, "metadata*": {"": str}}],
        "advanced": {
            "horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": _POLICIES, "scaleDown": _POLICIES}},
        },
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector*": _SELECTOR,
        "podMetricsEndpoints*": [
            {"port*": str, "path": str, "interval": str, "relabelings": [{"targetLabel": str, "replacement": str}]}
        ],
    },
}
# The metadata of KEDA's prometheus trigger; all of it are strings.
_PROMETHEUS = {"serverAddress", "query", "threshold"}, {"activationThreshold", "ignoreNullValues"}


def schemas(documents: Documents) -> list[str]:
    """Every document is valid, and has no field that the API would drop."""
    found = []
    for document in documents:
        shape = CUSTOM.get((document["apiVersion"], document["kind"]))
        problems = _known(json.dumps(document)) if shape is None else _custom(document, shape)
        found += [f"{called(document)}: {problem}" for problem in problems]
    return found


@functools.cache  # a document reads megabytes of schemas, and is in several overlays
def _known(text: str) -> list[str]:
    try:
        validate(json.loads(text), VERSION, strict=True)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        return [f"{place}: {error.message}"]
    return []


def _custom(document: Document, shape: dict[str, Any]) -> list[str]:
    extra = set(document) - {"apiVersion", "kind", "metadata", "spec"}
    found = [f"{name} is not known" for name in sorted(extra)]
    found += _fits(document.get("spec", {}), shape, "spec")
    for trigger in document.get("spec", {}).get("triggers", []):
        needed, more = _PROMETHEUS
        given = set(trigger.get("metadata", {}))
        if trigger.get("type") == "prometheus" and not needed <= given <= needed | more:
            found.append(f"the prometheus trigger has {', '.join(sorted(given ^ needed))}")
    return found


def _fits(value: Any, shape: Any, place: str) -> Iterator[str]:
    if isinstance(shape, type):
        if type(value) is not shape:
            yield f"{place} is no {shape.__name__}"
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            yield f"{place} is no list with entries"
        else:
            for index, entry in enumerate(value):
                yield from _fits(entry, shape[0], f"{place}.{index}")
    elif not isinstance(value, dict):
        yield f"{place} is no object"
    else:
        yield from _fields(value, shape, place)


def _fields(value: dict[str, Any], shape: dict[str, Any], place: str) -> Iterator[str]:
    known = {name.removesuffix("*"): part for name, part in shape.items()}
    for name in shape:
        if name.endswith("*") and name[:-1] not in value:
            yield f"{place}.{name[:-1]} is missing"
    for name, part in value.items():
        if "" in known:  # any name
            yield from _fits(part, known[""], f"{place}.{name}")
        elif name not in known:
            yield f"{place}.{name} is not known"
        else:
            yield from _fits(part, known[name], f"{place}.{name}")
