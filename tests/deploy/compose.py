"""What is wrong with a compose document: one function a rule, each giving sentences; none when all is in order."""

import argparse
import contextlib
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gateway.cli import parser
from gateway.settings import BadSettings, Settings, load
from serving.environment import SETTING as VLLM_PYTHON
from tests.deploy.dockerfile import Dockerfile, pinned
from tests.deploy.document import Document, mounts, substitute

# The programs of images that are not ours: the first word of a command, and what a shell there may start.
_PROGRAMS = {
    "vllm/vllm-openai": {"python3"},
    "postgres": {"postgres", "pg_isready"},
    "redis": {"sh", "redis-server", "redis-cli", "grep"},
    "haproxy": {"haproxy", "wget"},  # the Alpine variants have BusyBox
    "prom/prometheus": {"prometheus", "wget"},
    "grafana/grafana": {"wget"},
}
# What an image starts where a command only brings options.
_ENTRYPOINTS = {"prom/prometheus": "prometheus"}
_OURS = (["passerelle"], ["python", "-m", "gateway.cli"])
_PROBES = {"python", "python3"}
_WITHOUT_TABLE = {"PASSERELLE_CONFIG", "PASSERELLE_CACHE", VLLM_PYTHON}
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY\b|_KEY$")
_LITERAL = re.compile(r"(--(?:requirepass|api-key|password))[= ]+(?![\"']?\$)\S")
_FROM_VARIABLE = re.compile(r"\$\{\w+:(\?[^}]+|-)\}")
_USERINFO = re.compile(r"://[^/@\s]*:(?P<password>(?:\$\{[^}]*\}|[^@/\s])*)@")


def images(document: Document, root: Path) -> list[str]:
    """Every image has a version, or is built from a file that exists."""
    found = []
    for name, service in document["services"].items():
        build = service.get("build")
        if build and not (root / build["context"] / build["dockerfile"]).is_file():
            found.append(f"{name}: {build['dockerfile']} does not exist")
        if not build and not pinned(service.get("image", "")):
            found.append(f"{name}: image {service.get('image')} is not pinned")
    return found


def commands(document: Document, root: Path) -> list[str]:
    """Every command starts a program of its image; ours are parsed by the program's own parser."""
    found = []
    for name, service in document["services"].items():
        words, repository = _command(service, root), _repository(service, root)
        if service.get("build") and repository not in _PROGRAMS:
            found += [f"{name}: {problem}" for problem in _ours(words)]
        elif words and not set(_started(words)) <= _PROGRAMS.get(repository, set()):
            found.append(f"{name}: {repository} is not known to have {words[0]}")
    return found


def healthchecks(document: Document, root: Path) -> list[str]:
    """Every service has one that is enabled, ends, asks the service's own address, and starts a program of the image."""
    found = []
    for name, service in document["services"].items():
        check = service.get("healthcheck") or {}
        test = check.get("test") or []
        if check.get("disable") or test[:1] not in (["CMD"], ["CMD-SHELL"]):
            found.append(f"{name}: has no healthcheck")
            continue
        words = test[1:] if test[0] == "CMD" else shlex.split(test[1])
        known = _PROBES if service.get("build") else _PROGRAMS.get(_repository(service, root), set())
        if not set(_started(words)) <= known:
            found.append(f"{name}: the healthcheck starts {' or '.join(_started(words))}, which the image may not have")
        found += [f"{name}: the healthcheck asks {word}" for word in words if _elsewhere(word)]
        if _seconds(check.get("timeout", "30s")) > _seconds(check.get("interval", "30s")):
            found.append(f"{name}: a healthcheck may take longer than the interval between two")
    return found


def mounted_files(document: Document, root: Path) -> list[str]:
    """Every mounted file exists and is read-only; every named volume and network is declared."""
    found = []
    for name, service in document["services"].items():
        for source, _, options in mounts(service):
            if not source.startswith((".", "/")):
                found += [] if source in document.get("volumes", {}) else [f"{name}: volume {source} is not declared"]
            elif not (root / source).exists():
                found.append(f"{name}: {source} does not exist")
            elif "ro" not in options.split(","):
                found.append(f"{name}: {source} can be written by the container")
        unknown = set(service.get("networks", [])) - set(document.get("networks", {}))
        found += [f"{name}: network {network} is not declared" for network in sorted(unknown)]
    return found


def secrets(document: Document, root: Path) -> list[str]:
    """No secret is literal or has a default that works: each comes from a required or an empty variable."""
    found = []
    for name, service in document["services"].items():
        for key, value in service.get("environment", {}).items():
            if _SECRET.search(key) and not _FROM_VARIABLE.fullmatch(str(value)):
                found.append(f"{name}: {key} is not taken from a required variable")
            passwords = [userinfo["password"] for userinfo in _USERINFO.finditer(str(value))]
            found += [f"{name}: {key} holds a password" for word in passwords if not _FROM_VARIABLE.fullmatch(word)]
        words = " ".join([*(service.get("entrypoint") or []), *(service.get("command") or [])])
        found += [f"{name}: {option[1]} is literal" for option in _LITERAL.finditer(words)]
    return found


def ports(document: Document, root: Path) -> list[str]:
    """Only the balancer is published, and Grafana to this machine; nothing sits in the host's network."""
    found = []
    for name, service in document["services"].items():
        allowed = {"balancer": "", "grafana": "127.0.0.1:"}
        if any(name not in allowed or not port.startswith(allowed[name]) for port in service.get("ports", [])):
            found.append(f"{name}: publishes a port")
        if service.get("network_mode"):
            found.append(f"{name}: is in the host's network")
    if not document["services"].get("balancer", {}).get("ports"):
        found.append("balancer: publishes no port")
    return found


def privileges(document: Document, root: Path) -> list[str]:
    """No service is root, can gain privileges, or write anything but its volumes and memory."""
    found = []
    for name, service in document["services"].items():
        if service.get("privileged") or service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            found.append(f"{name}: keeps capabilities")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            found.append(f"{name}: may gain privileges")
        if not service.get("read_only"):
            found.append(f"{name}: can write its root")
        if _user(service, root).split(":")[0] in {"", "root", "0"}:
            found.append(f"{name}: runs as root")
    return found


def settings(document: Document, root: Path, variables: Mapping[str, str]) -> list[str]:
    """The gateways' environment and mounted file are a configuration that the gateway accepts; all have the same."""
    found = []
    alone = gateways(document)
    if not alone or any(service != alone[min(alone)] for service in alone.values()):
        found.append(f"{', '.join(alone) or 'no gateway'}: differ")
    for name, service in document["services"].items():
        ours = [key for key in service.get("environment", {}) if key.startswith("PASSERELLE_") and "__" not in key]
        found += [f"{name}: {key} is not a setting" for key in ours if key not in _WITHOUT_TABLE]
    try:
        effective(document, root, variables)
    except BadSettings as problem:
        found.append(f"gateway-a: {problem}")
    return found


def gateways(document: Document) -> dict[str, Document]:
    """The services that are gateways."""
    return {name: service for name, service in document["services"].items() if name.startswith("gateway-")}


def effective(document: Document, root: Path, variables: Mapping[str, str]) -> Settings:
    """The settings a gateway would have in its container. Raises BadSettings."""
    service = substitute(document["services"]["gateway-a"], variables)
    environment = {key: str(value) for key, value in service["environment"].items()}
    files = {target: root / source for source, target, _ in mounts(service)}
    path = files.get(environment.get("PASSERELLE_CONFIG", ""))
    if path is None:
        raise BadSettings("PASSERELLE_CONFIG names no mounted file.")
    with _environment(environment):
        return load(path)


Rule = Callable[[Document, Path], list[str]]
RULES: tuple[Rule, ...] = (images, commands, healthchecks, mounted_files, secrets, ports, privileges)


def _command(service: Document, root: Path) -> list[str]:
    entrypoint, command = service.get("entrypoint"), service.get("command")
    if build := service.get("build"):
        file = Dockerfile.read(root / build["context"] / build["dockerfile"])
        command = command if command is not None else file.form("CMD") if entrypoint is None else []
        entrypoint = entrypoint if entrypoint is not None else file.form("ENTRYPOINT")
    elif entrypoint is None and command and command[0].startswith("-"):
        entrypoint = [_ENTRYPOINTS.get(_repository(service, root), "")]
    return [str(word) for word in [*(entrypoint or []), *(command or [])]]


def _ours(words: list[str]) -> list[str]:
    for start in _OURS:
        if words[: len(start)] == start:
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said):
                    parsed: argparse.Namespace = parser().parse_args(words[len(start) :])
            except SystemExit:
                return [said.getvalue().strip().splitlines()[-1]]
            return [] if parsed.func else ["names no command"]
    return [f"{' '.join(words)} is no program of ours"]


def _started(words: list[str]) -> Iterator[str]:
    """The program a command starts; of a shell's line also those behind `exec` and pipes, without their variables."""
    if words[:2] == ["sh", "-c"]:
        yield "sh"
        words = shlex.split(words[2])
    at_start = True
    for word in words:
        if at_start and word != "exec" and not re.match(r"\w+=", word):
            yield word
            at_start = False
        at_start = at_start or word in {"|", "&&", ";"}


def _repository(service: Document, root: Path) -> str:
    """The name of a service's image; of one that is built, that of its base."""
    image = str(service.get("image", ""))
    if build := service.get("build"):
        image = Dockerfile.read(root / build["context"] / build["dockerfile"]).last_stage().all("FROM")[0]
    return image.partition("@")[0].rpartition(":")[0]


def _user(service: Document, root: Path) -> str:
    named = service.get("user")
    if named is None and (build := service.get("build")):
        named = (Dockerfile.read(root / build["context"] / build["dockerfile"]).last_stage().all("USER") or [""])[-1]
    return str(named or "")


def _elsewhere(word: str) -> bool:
    return "://" in word and not re.match(r"https?://(127\.0\.0\.1|localhost)\b", word)


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """This process with the container's variables in place of its own settings."""
    kept = dict(os.environ)
    for name in [name for name in kept if name.startswith("PASSERELLE_")] + ["VLLM_API_KEY", "OPENAI_API_KEY"]:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
