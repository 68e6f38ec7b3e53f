"""The request as one target is to get it: its model name, its defaults, and the firm French instruction when it is due."""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.protocol import ChatRequest, TextRequest
from gateway.routing import Ask
from gateway.target import Target

FIRM_INSTRUCTION: Final = (
    "Réponds uniquement en français. Toute ta réponse doit être rédigée en français correct, sans aucune phrase dans une "
    "autre langue, quelle que soit la langue de la question ou des documents."
)
# The model goes on from here, so it begins in French; the opening itself is not delivered.
OPENING: Final = "Voici ma réponse, en français :"

_OURS: Final = frozenset({"max_tokens", "max_completion_tokens"})
# OpenAI takes labels for stored answers alone, and no answer is stored: a fallback must not fail for them.
_NOT_FOR_OPENAI: Final = frozenset({"metadata"})


def streamed(
    request: TextRequest, target: Target, defaults: dict[str, Any], *, without: frozenset[str]
) -> dict[str, Any]:
    """What the bodies of all tasks have: the caller's fields but for some, the target's for the others, streamed, with usage."""
    options: dict[str, Any] = {"include_usage": True}
    if target.kind == "vllm":
        # vLLM then counts in every chunk, so that an answer given up half-way has its true cost.
        options["continuous_usage_stats"] = True
    asked = {
        **defaults,
        **{key: value for key, value in request.raw.items() if key not in without},
        "model": target.model,
        "stream": True,
        "stream_options": options,
    }
    if (request.fields.n or 1) > 1 and "temperature" not in request.raw:
        asked.pop("temperature", None)  # greedy, a default of small models, allows one choice only
    return asked


def has_opening(request: ChatRequest, ask: Ask) -> bool:
    """Whether the answer is begun for the model: only vLLM goes on from an unfinished turn, and not where tools are offered."""
    return (
        ask.firm
        and ask.pool.target.kind == "vllm"
        and "tools" not in request.raw
        and request.fields.messages[-1].role != "assistant"
    )


def body(request: ChatRequest, ask: Ask) -> bytes:
    """The JSON body for a target: always streamed, always with usage."""
    target = ask.pool.target
    without = _OURS | _NOT_FOR_OPENAI if target.kind == "openai" else _OURS
    asked = streamed(request, target, target.defaults, without=without)
    if (bound := request.max_tokens or ask.answer_tokens) is not None:
        asked.pop("max_tokens", None)
        # OpenAI deprecated max_tokens and refuses both at once; vLLM has known max_tokens the longest.
        asked["max_completion_tokens" if target.kind == "openai" else "max_tokens"] = bound
    if stop := _stop(target, request.fields.stop):
        asked["stop"] = stop
    messages = asked["messages"]
    if ask.firm:
        messages = _instructed(messages)
    if has_opening(request, ask):
        messages = [*messages, {"role": "assistant", "content": OPENING}]
        asked["add_generation_prompt"] = False
        asked["continue_final_message"] = True
    if target.kind == "vllm":
        # "developer" is OpenAI's newer word for "system"; chat templates do not know it.
        messages = [{**turn, "role": "system"} if turn["role"] == "developer" else turn for turn in messages]
    asked["messages"] = messages
    return orjson.dumps(asked)


def _stop(target: Target, asked: str | list[str] | None) -> list[str]:
    # A base model's template needs its own stop strings whatever the caller adds.
    own = target.defaults.get("stop") or []
    return [*([asked] if isinstance(asked, str) else asked or []), *([own] if isinstance(own, str) else own)]


def _instructed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = messages[0]
    if first["role"] in ("system", "developer") and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{FIRM_INSTRUCTION}"}, *messages[1:]]
    return [{"role": "system", "content": FIRM_INSTRUCTION}, *messages]
