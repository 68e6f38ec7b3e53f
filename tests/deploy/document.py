"""Compose files as Compose reads them, as far as ours need it: overlays, `!reset`, and variables."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "docker-compose.yml"
CPU = ROOT / "deploy" / "compose.cpu.yml"

Document = dict[str, Any]

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<word>[^}]*))?\}")
_RESET = object()


class UnsetVariable(Exception):
    """A required variable is not set; the message is the one Compose shows."""


class _Loader(yaml.SafeLoader):
    pass


def _reset(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    return _RESET


_Loader.add_constructor("!reset", _reset)


def load(*paths: Path) -> Document:
    """The files laid over each other, first to last; variables are left as they are."""
    merged: Document = {}
    for path in paths:
        merged = _merge(merged, yaml.load(path.read_text(encoding="utf-8"), _Loader))  # noqa: S506  # derived from SafeLoader
    return merged


def substitute(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$` everywhere in a value; raises UnsetVariable."""
    if isinstance(value, dict):
        return {key: substitute(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [substitute(part, variables) for part in value]
    return _VARIABLE.sub(lambda found: _replaced(found, variables), value) if isinstance(value, str) else value


def variables(value: Any) -> Iterable[str]:
    """The names of all variables in a value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from variables(part)
    elif isinstance(value, str):
        yield from (found["name"] for found in _VARIABLE.finditer(value) if found["name"])


def mounts(service: Document) -> list[tuple[str, str, str]]:
    """Source, target and options of each volume of a service."""
    return [(*volume.split(":", 2), "")[:3] for volume in service.get("volumes", [])]


def _replaced(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    value = variables.get(found["name"], "")
    if value or not found["kind"]:
        return value
    if found["kind"] == ":?":
        raise UnsetVariable(f"required variable {found['name']} is missing a value: {found['word']}")
    return str(found["word"])


def _merge(base: Document, over: Document) -> Document:
    """Mappings are merged, volumes by their target; commands and other values are replaced (Compose's merge rules)."""
    merged = dict(base)
    for key, value in over.items():
        if value is _RESET:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value)
        elif key == "volumes" and isinstance(value, list):
            by_target = {volume.split(":")[1]: volume for volume in [*base.get(key, []), *value]}
            merged[key] = list(by_target.values())
        else:
            merged[key] = value
    return merged
