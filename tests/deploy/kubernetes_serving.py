"""Do gateway, model server and probes fit together? One function a rule, each giving sentences."""

import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from auth.signing import new_pem
from gateway.app import create_app
from gateway.settings import BadSettings, Settings, load
from tests.deploy.kubernetes import Document, Documents, Pods, find, flags, pods, replicas, variables

_START_SECONDS = 1800  # at least, for weights that have to be fetched
_SCRIPT = "probe.py"


@functools.cache
def paths() -> frozenset[str]:
    """The paths of the app."""
    target = {"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "falcon"}
    with tempfile.TemporaryDirectory() as folder:
        tables = {"state": {"directory": folder}, "targets": {"local": target}, "models": {"m": {"targets": ["local"]}}}
        return frozenset(create_app(Settings.model_validate(tables)).openapi()["paths"])


@functools.cache
def _secrets() -> dict[str, str]:
    return {
        "database-url": "postgresql://passerelle:secret1@db.example:5432/passerelle",
        "redis-url": "redis://:secret2@cache.example:6379/0",
        "signing-key": new_pem(),
        "api-key-secret": "s" * 64,
        "api-key": "cle",
    }


def effective(documents: Documents) -> Settings:
    """The settings the gateway would have in its pod, every secret that has to be there being there. Raises BadSettings."""
    environment, text = given(documents)
    if text is None:
        raise BadSettings("PASSERELLE_CONFIG names no mounted file.")
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, environment, clear=True):
        file = Path(folder) / "passerelle.toml"
        file.write_text(text, encoding="utf-8")
        return load(file)


def given(documents: Documents) -> tuple[dict[str, str], str | None]:
    """The gateway's environment, and the file that its PASSERELLE_CONFIG names."""
    (gateway,) = (made for made in pods(documents) if made.name == "gateway")
    environment = dict(_environment(gateway.spec["containers"][0]))
    files = {target: text for _, target, text in _mounted(documents, gateway)}
    return environment, files.get(environment.get("PASSERELLE_CONFIG", ""))


def _environment(container: Document) -> Iterator[tuple[str, str]]:
    for name, variable in variables(container).items():
        wanted = variable.get("valueFrom", {}).get("secretKeyRef")
        if wanted is None:
            yield name, variable["value"]
        elif not wanted.get("optional"):
            yield name, _secrets()[wanted["key"]]


def _mounted(documents: Documents, made: Pods) -> Iterator[tuple[str, str, str]]:
    """File name, path in the container and text of everything that comes from a ConfigMap."""
    maps = {volume["name"]: volume["configMap"]["name"] for volume in made.spec["volumes"] if "configMap" in volume}
    for container in made.containers:
        for mount in container.get("volumeMounts", []):
            document = find(documents, "ConfigMap", maps.get(mount["name"], ""))
            for name, text in (document or {"data": {}})["data"].items():
                yield name, f"{mount['mountPath']}/{name}", text


def configuration(documents: Documents) -> list[str]:
    """The gateway accepts its configuration, listens where it is asked, and names every replica there may be, and no other."""
    try:
        settings = effective(documents)
    except BadSettings as problem:
        return [f"gateway: {problem}"]
    gateway, vllm = _both(documents)
    found = []
    if (settings.server.host, settings.server.port) != ("0.0.0.0", gateway.ports["http"]):  # noqa: S104  # in its pod
        found.append(f"gateway: listens at {settings.server.host}:{settings.server.port}")
    if settings.server.workers != 1:
        found.append("gateway: several workers share one /metrics")
    folder = str(settings.state.directory)
    if not any(mount["mountPath"] == folder for mount in gateway.spec["containers"][0]["volumeMounts"]):
        found.append(f"gateway: {folder} is no volume")
    ours = [target for target in settings.targets.values() if not target.outside]
    service, port = vllm.document["spec"]["serviceName"], vllm.ports["http"]
    named = [f"http://{vllm.name}-{n}.{service}:{port}/v1" for n in range(replicas(documents, vllm.name))]
    if [str(url) for target in ours for url in target.urls] != named:
        found.append(f"gateway: the replicas are {', '.join(named)}")
    found += [f"gateway: vllm does not serve {target.model}" for target in ours if target.model != _served(vllm)]
    return found


def shutdown(documents: Documents) -> list[str]:
    """Nobody is killed before its open answers may have come to their end."""
    gateway, vllm = _both(documents)
    needs = {gateway.name: effective(documents).server.shutdown_seconds}
    needs[vllm.name] = int(flags(vllm.spec["containers"][0]).get("--shutdown-timeout", 0))
    found = []
    for made in (gateway, vllm):
        hook = made.spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace, needed = made.spec.get("terminationGracePeriodSeconds", 30), hook + needs[made.name]
        if grace <= needed:
            found.append(f"{made.name}: is killed after {grace} s, but may need {needed} s")
    if not gateway.spec["containers"][0].get("lifecycle", {}).get("preStop"):
        found.append("gateway: stops before others know that it does")
    return found


def probes(documents: Documents) -> list[str]:
    """Every container has all three; they ask itself for what it has, may be slow at the start, and kill last of all."""
    found = []
    for made in pods(documents):
        for container in made.containers:
            checks = {name: container.get(f"{name}Probe") for name in ("startup", "readiness", "liveness")}
            found += [f"{made.name}: has no {name} probe" for name, check in checks.items() if check is None]
            present = {name: check for name, check in checks.items() if check is not None}
            for name, check in present.items():
                asked = _http(made, check) if "httpGet" in check else _script(documents, made, check)
                found += [f"{made.name}: the {name} probe {problem}" for problem in asked]
            found += [f"{made.name}: {problem}" for problem in _order(present)]
    return found


def _http(made: Pods, check: Document) -> Iterator[str]:
    path, port = check["httpGet"]["path"], check["httpGet"]["port"]
    if path not in paths():
        yield f"asks for {path}, which the app does not have"
    if port not in made.ports:
        yield f"asks port {port}, which the pod does not have"


def _script(documents: Documents, made: Pods, check: Document) -> Iterator[str]:
    words = check["exec"]["command"]
    scripts = {target for name, target, _ in _mounted(documents, made) if name == _SCRIPT}
    if words[0] not in ("python", "python3") or words[1] not in scripts:
        yield f"starts {words[0]} {words[1]}, which is not there"
        return
    if words[-1] != f"http://127.0.0.1:{made.ports['http']}":
        yield f"asks {words[-1]}"
    if "--chat" not in words:
        yield "asks for no token"
    elif (model := words[words.index("--chat") + 1]) != _served(made):
        yield f"asks for {model}, which is not served"
    seconds = next((word.partition("=")[2] for word in words if word.startswith("--seconds=")), "7")
    if float(seconds) + 2 >= check.get("timeoutSeconds", 1):  # /health is asked before, for 2 s
        yield f"is ended after {check.get('timeoutSeconds', 1)} s, before it can say why"


def _order(checks: dict[str, Document]) -> Iterator[str]:
    if {"startup", "readiness", "liveness"} <= set(checks):
        patience = {name: _patience(check) for name, check in checks.items()}
        if patience["startup"] < _START_SECONDS:
            yield f"may start for {patience['startup']} s alone"
        if patience["liveness"] < 2 * patience["readiness"]:
            yield "is killed before it has been left alone for a while"
    if checks.get("liveness", {}).get("httpGet", {}).get("path") == "/readyz":
        yield "is killed for what is away"


def _patience(check: Document) -> int:
    """The seconds for which it may fail."""
    every = max(check.get("periodSeconds", 10), check.get("timeoutSeconds", 1) if "exec" in check else 0)
    return int(every * check.get("failureThreshold", 3))


def _both(documents: Documents) -> tuple[Pods, Pods]:
    made = {each.name: each for each in pods(documents)}
    return made["gateway"], made["vllm"]


def _served(vllm: Pods) -> str:
    container = vllm.spec["containers"][0]
    words = [str(word) for word in container.get("args", [])]
    named = flags(container).get("--served-model-name")
    return named or (words[words.index("--model") + 1] if "--model" in words else "")
