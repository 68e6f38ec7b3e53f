"""Kubernetes manifests as kubectl renders them, and what belongs together in them."""

import functools
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.document import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = tuple(sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml")))
NAMESPACE = "passerelle"
WORKLOADS = ("Deployment", "StatefulSet")

Document = dict[str, Any]
Documents = list[Document]
Labels = Mapping[str, str]


@functools.cache
def rendered(overlay: str) -> str:
    """An overlay as `kubectl apply -k` would send it: once in a run, without a cluster."""
    kubectl = Path(sysconfig.get_path("scripts")) / "kubectl"
    words = [str(kubectl), "kustomize", str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(f"{overlay}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def load(overlay: str) -> Documents:
    """Its documents, the caller's own copy."""
    return list(yaml.load_all(rendered(overlay), yaml.CSafeLoader))


def of_kind(documents: Documents, *kinds: str) -> Documents:
    """The documents of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def find(documents: Documents, kind: str, name: str) -> Document | None:
    """One document by its name."""
    return next((found for found in of_kind(documents, kind) if found["metadata"]["name"] == name), None)


def called(document: Document) -> str:
    """How a document is named in a sentence."""
    return f"{document['kind']} {document['metadata']['name']}"


@dataclass(frozen=True)
class Pods:
    """What a Deployment or StatefulSet makes: its name, its pods' labels and spec, and the document itself."""

    name: str
    labels: Labels
    spec: Document
    document: Document

    @property
    def containers(self) -> list[Document]:
        """All containers, those that run before the others included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """The pods' ports by name."""
        return {port["name"]: port["containerPort"] for box in self.containers for port in box.get("ports", [])}


def pods(documents: Documents) -> list[Pods]:
    """Everything that makes pods."""
    made = []
    for document in of_kind(documents, *WORKLOADS):
        template = document["spec"]["template"]
        labels = template["metadata"].get("labels", {})
        made.append(Pods(document["metadata"]["name"], labels, template["spec"], document))
    return made


def selects(selector: Document, labels: Labels) -> bool:
    """Whether a label selector fits; an empty one fits everything, one with expressions is not understood here."""
    if selector.get("matchExpressions"):
        raise AssertionError("selectors with expressions are not understood here")
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def variables(container: Document) -> dict[str, Document]:
    """A container's environment by name."""
    return {variable["name"]: variable for variable in container.get("env", [])}


def secret_keys(documents: Documents) -> Iterator[tuple[str, str, bool]]:
    """Name, key, and whether it may be missing, of every secret that a container asks for."""
    for made in pods(documents):
        for container in made.containers:
            for variable in variables(container).values():
                if wanted := variable.get("valueFrom", {}).get("secretKeyRef"):
                    yield wanted["name"], wanted["key"], wanted.get("optional", False)


def flags(container: Document) -> dict[str, str]:
    """Its arguments of the form --name=value."""
    return dict(word.split("=", 1) for word in container.get("args", []) if word.startswith("--") and "=" in word)


def replicas(documents: Documents, name: str) -> int:
    """The most pods that a workload may have."""
    most = 1
    for scaler in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        if scaler["spec"]["scaleTargetRef"]["name"] == name:
            most = scaler["spec"].get("maxReplicas") or scaler["spec"]["maxReplicaCount"]
    return most
