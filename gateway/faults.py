"""What is wrong with a configuration, in one sentence."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


def fault(error: ValidationError) -> str:
    """The first fault: which key, what it held unless that may be a secret, and what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if not key:
        return first["msg"].removeprefix("Value error, ") + "."
    if first["type"] == "extra_forbidden":
        return f"{key} is not a setting (see passerelle.example.toml for the ones there are)."
    if first["type"] == "missing":
        return f"{key} is missing (see passerelle.example.toml)."
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # a table whose values do not go together
        return f"{key} {first['msg'].removeprefix('Value error, ')}."
    allowed = "this must be a table" if first["type"] == "model_type" else first["msg"]
    allowed = allowed.removeprefix("Value error, ")
    allowed = allowed if allowed.startswith("URL") else f"{allowed[0].lower()}{allowed[1:]}"
    return f"{key} holds {_shown(key, first['input'])}, but {allowed}."


def _shown(key: str, held: Any) -> str:
    # Never a secret, nor what may hold one: an address can carry a password.
    shown = repr(held)
    words = any(word in key for word in ("key", "url", "secret")) or key.endswith("_token")
    secret = words and not key.startswith("limits.")
    if isinstance(held, dict | list) or "://" in shown or secret:
        return "a value"
    return shown[:80]
