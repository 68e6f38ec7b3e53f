"""Service levels from a TOML file: a table for each kind of question, and what holds for all of them above."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from loadtests.figures import TENANT
from loadtests.levels import RATE, SHARES, Level, times

_EVERY = (*SHARES[:2], RATE)
_KIND = (*SHARES, RATE, *times("total"))
_MEASURES = {
    "streamed": (*_EVERY, *times("ttft"), *times("inter_token"), *times("total")),
    "plain": (*_EVERY, *times("total")),
    "over_limit": _KIND,
    "refused": (*_EVERY, *times("total")),
    "arrival": times("wait"),
}


def levels(file: Path) -> list[Level]:
    """Raises SystemExit with one sentence that names the key, what it held and what is allowed."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"loadtests: {file} cannot be read as TOML: {error}") from None
    tenants = found.pop("tenant", {})
    tables = {name: table for name, table in found.items() if isinstance(table, dict)}
    read = _table(file, "", None, {name: value for name, value in found.items() if name not in tables}, _EVERY)
    for name, table in tables.items():
        if name not in _MEASURES:
            raise SystemExit(f"loadtests: {file}: [{name}] is unknown, allowed are {', '.join(_MEASURES)}, tenant.NAME")
        read += _table(file, f"{name}.", name, table, _MEASURES[name])
    if not isinstance(tenants, dict) or not all(isinstance(table, dict) for table in tenants.values()):
        raise SystemExit(f"loadtests: {file}: tenant is {tenants!r}, allowed are tables [tenant.NAME]")
    for name, table in tenants.items():
        read += _table(file, f"tenant.{name}.", f"{TENANT}{name}", table, _KIND)
    return read


def _table(file: Path, place: str, kind: str | None, table: dict[str, Any], allowed: tuple[str, ...]) -> list[Level]:
    for name, value in table.items():
        if name not in allowed:
            raise SystemExit(f"loadtests: {file}: {place}{name} is unknown, allowed are {', '.join(allowed)}")
        share = name in SHARES
        number = not isinstance(value, bool) and isinstance(value, int | float)
        if not number or not (0 <= value <= 1 if share else 0 < value < float("inf")):
            wanted = "a share from 0 to 1" if share else "a number above 0"
            raise SystemExit(f"loadtests: {file}: {place}{name} is {value!r}, allowed is {wanted}")
    return [Level(f"{place}{name}", kind, name, float(value)) for name, value in table.items()]
