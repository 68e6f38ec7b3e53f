"""Copies of the manifests in which something is broken."""

from collections.abc import Callable
from typing import Any

from tests.deploy.kubernetes import Document, called, load
from tests.deploy.kubernetes_rules import Rule

GATEWAY, VLLM = "Deployment gateway", "StatefulSet vllm"
HPA, KEDA = "HorizontalPodAutoscaler gateway", "ScaledObject vllm"
Copy = dict[str, Document]
Change = Callable[[Copy], Any]


def pod(copy: Copy, name: str) -> Document:
    spec: Document = copy[name]["spec"]["template"]["spec"]
    return spec


def box(copy: Copy, name: str) -> Document:
    container: Document = pod(copy, name)["containers"][0]
    return container


def variable(copy: Copy, container: str, name: str) -> Document:
    found: Document = next(entry for entry in box(copy, container)["env"] if entry["name"] == name)
    return found


def toml(copy: Copy, old: str, new: str) -> None:
    """The gateway's file with something replaced."""
    (name,) = (name for name in copy if name.startswith("ConfigMap gateway-config"))
    assert old in copy[name]["data"]["passerelle.toml"]
    copy[name]["data"]["passerelle.toml"] = copy[name]["data"]["passerelle.toml"].replace(old, new)


def word(copy: Copy, probe: str, old: str, new: str) -> None:
    """A probe of vLLM with one word replaced."""
    command = box(copy, VLLM)[f"{probe}Probe"]["exec"]["command"]
    command[command.index(old)] = new


def literal(copy: Copy, container: str, name: str) -> None:
    found = variable(copy, container, name)
    found.pop("valueFrom")
    found["value"] = "changeme"


def copied() -> Copy:
    """The overlay that has something of everything, by the names of its documents."""
    return {called(document): document for document in load("cluster")}


def reported(rule: Rule, change: Change) -> list[str]:
    copy = copied()
    change(copy)
    return rule(list(copy.values()))
