"""The gateway as a contestant: guards off, guards on, and everything on with its state outside the process."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auth.signing import keys_from_folder
from auth.tokens import Tokens
from loadtests.bench.sidebyside.servers import Contestant, free_port

GUARDS = ("language", "terms", "injection", "moderation", "distress", "leaks", "loops")
_MANY = 2**40  # counted, and never reached
_COUNTED = {"requests_per_minute": _MANY, "tokens_per_minute": _MANY, "concurrent": 100_000}


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of values and of tables of values. TOML takes JSON's values."""
    lines: list[str] = []
    for table, entries in tables.items():
        inner = {key: value for key, value in entries.items() if isinstance(value, dict)}
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items() if key not in inner]
        for key, values in inner.items():
            lines += [
                f"[{table}.{json.dumps(key)}]",
                *(f"{name} = {json.dumps(value)}" for name, value in values.items()),
            ]
    return "\n".join(lines) + "\n"


def _tables(folder: Path, port: int, replicas: Sequence[str], model: str, *, on: bool) -> dict[str, dict[str, Any]]:
    off: dict[str, Any] = {guard: {"mode": "off"} for guard in GUARDS} | {"personal_data": {"outside": "allow"}}
    return {
        "server": {"port": port},
        "state": {"directory": str(folder / "state")},
        "limits": {**_COUNTED, "tenant": dict(_COUNTED)},
        "guards": {} if on else off,
        "targets": {"local": {"kind": "vllm", "urls": list(replicas), "model": model}},
        "models": {model: {"targets": ["local"]}},
    }


def passerelle(
    name: str,
    folder: Path,
    *upstreams: str,
    on: bool,
    state: Mapping[str, str] | None = None,
    workers: int = 1,
    model: str = "m",
    annotating: Sequence[str] = (),
) -> Contestant:
    """One installation of its own below `folder`, in front of the replicas `upstreams` of one model.

    `state` names a database and a Redis. The guards named in `annotating` do their work and say what they found, no more.
    """
    port, home = free_port(), folder / name
    tables = _tables(home, port, upstreams, model, on=on)
    tables["guards"] |= {guard: {"mode": "annotate"} for guard in annotating}
    tables["targets"]["local"]["concurrency"] = 0  # the callers are as many as they are
    tables["state"] |= state or {}
    home.mkdir()
    config = home / "passerelle.toml"
    config.write_text(toml(tables), encoding="utf-8")
    keys = keys_from_folder(home / "state" / "signing-keys")
    token = Tokens(keys, "passerelle", "passerelle", 86_400).issue("bench", tenant="bench", scopes=frozenset({"chat"}))
    return Contestant(
        name,
        f"http://127.0.0.1:{port}",
        [sys.executable, "-m", "gateway.cli", "gateway", "--config", str(config), "--workers", str(workers)],
        headers={"authorization": f"Bearer {token}"},
        ready="/livez",
    )
