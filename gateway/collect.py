"""Chunks that left -> one plain answer (OpenAI API reference, "The chat completion object")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.events import Chunk


def completion(chunks: Iterable[Chunk], usage: dict[str, Any] | None) -> dict[str, Any]:
    """The collected form: every choice whole, with text, refusal, tool calls, log probabilities and finish."""
    choices: dict[int, dict[str, Any]] = {}
    envelope: dict[str, Any] = {}
    for chunk in chunks:
        envelope = envelope or {key: chunk[key] for key in ("id", "created", "model")}
        for part in chunk["choices"]:
            _add(choices.setdefault(part["index"], _empty(part["index"])), part)
    return {
        "id": envelope["id"],
        "object": "chat.completion",
        "created": envelope["created"],
        "model": envelope["model"],
        "choices": [_finished(choices[index]) for index in sorted(choices)],
        "usage": usage,
    }


def _empty(index: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": [], "refusal": [], "tool_calls": {}}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _add(choice: dict[str, Any], part: dict[str, Any]) -> None:
    message, delta = choice["message"], part["delta"]
    for key, value in delta.items():
        if key in ("content", "refusal"):
            message[key].append(value or "")
        elif key == "tool_calls":
            for call in value:
                _merge(message["tool_calls"].setdefault(call.get("index") or 0, {}), call)
        elif isinstance(value, dict) and isinstance(message.get(key, {}), dict):
            _merge(message.setdefault(key, {}), value)
        elif key != "role":
            message[key] = value
    if part.get("logprobs"):
        choice["logprobs"] = choice["logprobs"] or {}
        for key, items in part["logprobs"].items():
            choice["logprobs"].setdefault(key, []).extend(items or ())
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


def _merge(call: dict[str, Any], delta: dict[str, Any]) -> None:
    # The id, type and name come once; arguments come in pieces.
    for key, value in delta.items():
        if key == "index" or value is None:
            continue
        if isinstance(value, dict):
            _merge(call.setdefault(key, {}), value)
        elif key == "arguments":
            call[key] = call.get(key, "") + value
        else:
            call[key] = value


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    calls = [message["tool_calls"][index] for index in sorted(message["tool_calls"])]
    text, refusal = "".join(message["content"]), "".join(message["refusal"])
    extra = {key: value for key, value in message.items() if key not in ("content", "refusal", "tool_calls")}
    finished = {**extra, "content": text or (None if calls or refusal else ""), "refusal": refusal or None}
    return {**choice, "message": {**finished, "tool_calls": calls} if calls else finished}
