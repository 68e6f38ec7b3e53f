"""Models we know how to serve: one TOML file each under `profiles/`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import hub
from serving.errors import ServingError
from serving.model import Dimensions, dimensions, read_dimensions

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "profiles"
TEMPLATES = HERE / "templates"
EMBEDDED_DEFAULT = "gemma-3-270m"
GPU_DEFAULT = "falcon-7b-instruct"

_TYPES: Mapping[str, type] = {
    "model": str,
    "awq": str,
    "embedded": str,
    "served_name": str,
    "template": str,
    "template_tokens": int,
    "context": int,
    "licence": str,
    "note": str,
    "defaults": dict,
    "config": dict,
}
_REQUIRED = ("model", "served_name", "context", "licence")

# Fields of a chat request that a profile may fill in when the caller left them out (OpenAI's and vLLM's names).
_DEFAULTS = (
    "frequency_penalty", "max_tokens", "presence_penalty", "repetition_penalty", "stop", "temperature", "top_k", "top_p",
)  # fmt: skip


class ProfileError(ServingError):
    """A profile is unknown or wrong; the sentence names the key, the value and what is allowed."""


@dataclass(frozen=True)
class Profile:
    """One model. `model` is a hub id or a folder; `embedded` names weights that come inside a package.

    `defaults` are fields the gateway puts into a chat request when the caller sets none. `template` is a file, or None when the
    model brings its own; it adds `template_tokens` to a conversation at most. `context` is in tokens. `known` are the
    dimensions when they are known beforehand, `awq` is the hub id of the same model quantised to 4 bits, where there is one.
    """

    name: str
    model: str
    served_name: str
    context: int
    licence: str
    note: str = ""
    embedded: str | None = None
    template: Path | None = None
    template_tokens: int = 64
    defaults: Mapping[str, Any] = field(default_factory=dict)
    known: Dimensions | None = None
    awq: str | None = None

    @property
    def local(self) -> bool:
        """True when nothing has to be fetched from a hub."""
        return self.embedded is not None or Path(self.model).is_dir()


def profile_names(folder: Path = FOLDER) -> list[str]:
    """The names that `--model` takes, besides hub ids and folders."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def find_profile(model: str, folder: Path = FOLDER) -> Profile:
    """The profile for what a user writes after `--model`: a name of ours, a hub id with a slash, or a model folder.

    A hub id that a profile of ours serves gets that profile. Raises ProfileError.
    """
    path = folder / f"{model}.toml"
    if "/" not in model and path.is_file():
        return load_profile(path)
    if Path(model).is_dir():
        return _folder_profile(Path(model))
    if model.count("/") == 1 and not model.startswith(("/", ".", "~")):
        ours = [load_profile(folder / f"{name}.toml") for name in profile_names(folder)]
        same = [profile for profile in ours if profile.model.lower() == model.lower() and profile.embedded is None]
        return same[0] if same else _hub_profile(model)
    known = ", ".join(profile_names(folder))
    raise ProfileError(
        f"--model {model}: no such profile or folder; allowed are {known}, a hub id (owner/name) or a folder"
    )


def load_profile(path: Path) -> Profile:
    """Read one profile file. Raises ProfileError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path} is not TOML: {error}") from error
    _check(table, path)
    return Profile(
        name=path.stem,
        model=table["model"],
        served_name=table["served_name"],
        context=table["context"],
        licence=table["licence"],
        note=table.get("note", ""),
        embedded=table.get("embedded"),
        template=TEMPLATES / table["template"] if "template" in table else None,
        template_tokens=table.get("template_tokens", 64),
        defaults=table.get("defaults", {}),
        known=dimensions(table["config"], path) if "config" in table else None,
        awq=table.get("awq"),
    )


def _check(table: dict[str, Any], path: Path) -> None:
    for key, value in table.items():
        if key not in _TYPES:
            raise ProfileError(f"{path}: unknown key {key} = {value!r}; allowed are {', '.join(_TYPES)}")
        if type(value) is not _TYPES[key]:
            raise ProfileError(f"{path}: {key} = {value!r} must be of type {_TYPES[key].__name__}")
    for key in _REQUIRED:
        if key not in table:
            raise ProfileError(f"{path}: {key} is missing; a profile needs {', '.join(_REQUIRED)}")
    if table["context"] < 1:
        raise ProfileError(f"{path}: context = {table['context']} must be a positive number of tokens")
    for key, value in table.get("defaults", {}).items():
        if key not in _DEFAULTS:
            raise ProfileError(f"{path}: unknown key defaults.{key} = {value!r}; allowed are {', '.join(_DEFAULTS)}")
    if "template" in table and not (TEMPLATES / table["template"]).is_file():
        there = ", ".join(sorted(file.name for file in TEMPLATES.glob("*.jinja")))
        raise ProfileError(f"{path}: template = {table['template']!r} is no file; allowed are {there}")


def _hub_profile(model: str) -> Profile:
    """A hub id that no profile of ours serves; its dimensions are known where the hub's cache on this machine has them."""
    name = model.rpartition("/")[2].lower()
    folder = hub.cached_folder(model)
    known = read_dimensions(folder) if folder else None
    return Profile(
        name=name,
        model=model,
        served_name=name,
        context=min(2048, known.max_positions) if known else 2048,
        licence="see the model's page on the hub",
        template=TEMPLATES / "falcon.jinja" if folder and _needs_template(folder) else None,
        known=known,
    )


def _folder_profile(folder: Path) -> Profile:
    """A model folder: its own template when it has one, ours for the Falcon architecture. Raises ModelError."""
    known = read_dimensions(folder)
    return Profile(
        name=folder.resolve().name,
        model=str(folder.resolve()),
        served_name=folder.resolve().name.lower(),
        context=min(2048, known.max_positions),
        licence="yours",
        template=TEMPLATES / "falcon.jinja" if _needs_template(folder) else None,
        known=known,
    )


def _needs_template(folder: Path) -> bool:
    """The first Falcons' class without a chat template of its own."""
    own = (folder / "chat_template.jinja").is_file() or "chat_template" in _text(folder / "tokenizer_config.json")
    return '"FalconForCausalLM"' in _text(folder / "config.json") and not own


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
