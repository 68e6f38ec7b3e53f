"""Who asks, and what: the one caller of the environment, or the callers of a file with weights."""

from __future__ import annotations

import csv
import itertools
import os
import random
import threading
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.login import Credentials, Login

KINDS = ("streamed", "plain", "over_limit", "refused")
_SECRETS = ("password", "key")
_KEYS = ("name", "weight", "user", "model", *_SECRETS, *(f"{secret}_env" for secret in _SECRETS), *KINDS)


@dataclass
class Caller:
    """One login or key. `kinds` are the weights of what it asks; an empty `name` has no figures of its own.

    `model` is what it asks for, found out at its first question when it is empty.
    """

    name: str
    weight: float
    login: Login
    kinds: Mapping[str, float]
    model: str = ""
    one: threading.Lock = field(
        default_factory=threading.Lock, repr=False
    )  # one user finds the model out, the others wait


class Callers:
    """A draw gives a caller and a kind of question, so that the weights are shares of questions and not of users."""

    def __init__(self, callers: Iterable[Caller]) -> None:
        every = tuple(callers)
        pairs: list[tuple[Caller, str, float]] = []
        for caller in every:
            whole = sum(caller.kinds.values()) or 1
            pairs += [(caller, kind, caller.weight * weight / whole) for kind, weight in caller.kinds.items()]
        self._all = _Draw(pairs)
        self._only = {
            kind: _Draw([pair for pair in pairs if pair[1] == kind and pair[2]])
            or _Draw([(caller, kind, caller.weight) for caller in every])
            for kind in KINDS
        }

    def __bool__(self) -> bool:
        return bool(self._all)

    def draw(self, random: random.Random, only: str | None = None) -> tuple[Caller, str]:
        """With `only`, among those who ask that kind; among all, when nobody was told to."""
        draw = self._only[only] if only else self._all
        caller, kind, _ = random.choices(draw.pairs, cum_weights=draw.sums)[0]
        return caller, kind


class _Draw:
    def __init__(self, pairs: list[tuple[Caller, str, float]]) -> None:
        self.pairs, self.sums = pairs, list(itertools.accumulate(weight for _, _, weight in pairs))

    def __bool__(self) -> bool:
        return bool(self.sums and self.sums[-1])


def from_file(file: Path, usual: Mapping[str, float], environment: Mapping[str, str] = os.environ) -> Callers:
    """Read a TOML file with `[[tenants]]` or a CSV file with a header; whoever names no kinds asks the `usual` ones.

    Raises SystemExit with one sentence that names the place, what it held and what is allowed.
    """
    try:
        rows = _csv(file) if file.suffix == ".csv" else tomllib.loads(file.read_text(encoding="utf-8")).get("tenants")
    except (OSError, ValueError, csv.Error) as error:
        raise SystemExit(f"loadtests: {file} cannot be read: {error}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise SystemExit(
            f"loadtests: {file} holds no tenants: give a table [[tenants]] for each, or rows under a CSV header"
        )
    callers = [_caller(f"{file}: tenant {place}", row, usual, environment) for place, row in enumerate(rows, 1)]
    found = Callers(callers)
    if not found:
        raise SystemExit(f"loadtests: {file}: every weight is 0, so no question would be asked")
    return found


def _csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return [{key or "": value for key, value in row.items() if value} for row in csv.DictReader(opened)]


def _caller(where: str, row: dict[str, Any], usual: Mapping[str, float], environment: Mapping[str, str]) -> Caller:
    for key in row:
        if key not in _KEYS:
            raise SystemExit(f"loadtests: {where}: {key} is unknown, allowed are {', '.join(_KEYS)}")
    name = _text(where, row, "name")
    if not name:
        raise SystemExit(f"loadtests: {where} has no name, allowed is the text under which its figures stand")
    where = f"{where} ({name})"
    secrets = {secret: _secret(where, row, secret, environment) for secret in _SECRETS}
    user = _text(where, row, "user")
    if bool(secrets["key"]) == bool(user and secrets["password"]):
        raise SystemExit(
            f"loadtests: {where} needs either user and password, or key (each also from password_env, key_env)"
        )
    own = {kind: _weight(where, row, kind, 0) for kind in KINDS if kind in row}
    return Caller(
        name=name,
        weight=_weight(where, row, "weight", 1),
        login=Login(Credentials(user, secrets["password"], secrets["key"])),
        kinds=own or usual,
        model=_text(where, row, "model"),
    )


def _text(where: str, row: dict[str, Any], key: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        # Without its value: it may be a secret.
        raise SystemExit(f"loadtests: {where}: {key} is of type {type(value).__name__}, allowed is a text")
    return value


def _secret(where: str, row: dict[str, Any], key: str, environment: Mapping[str, str]) -> str:
    variable = _text(where, row, f"{key}_env")
    if variable and not environment.get(variable):
        raise SystemExit(f"loadtests: {where}: {key}_env names ${variable}, which is not set")
    return environment[variable] if variable else _text(where, row, key)


def _weight(where: str, row: dict[str, Any], key: str, default: float) -> float:
    value = row.get(key, default)
    try:
        weight = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise SystemExit(f"loadtests: {where}: {key} is {value!r}, allowed is a number of 0 or more")
    return weight
