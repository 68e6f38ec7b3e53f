"""The request as one target is to get it: its model name, its defaults, and the firm French instruction when it is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.protocol import ChatRequest, TextRequest
from gateway.routing import Ask
from gateway.steering import FIRM_INSTRUCTION, FIRM_INSTRUCTION_FOR, INSTRUCTION, OPENING, instructed, opened
from gateway.target import Target

_OURS: Final = frozenset({"max_tokens", "max_completion_tokens", "passerelle"})
# OpenAI takes labels for stored answers alone, and no answer is stored: a fallback must not fail for them.
_NOT_FOR_OPENAI: Final = frozenset({"metadata"})


def streamed(
    request: TextRequest, target: Target, defaults: dict[str, Any], lead: Lead, *, without: frozenset[str]
) -> dict[str, Any]:
    """What the bodies of all tasks have: the caller's fields but for some, the target's for the others, streamed, with usage.

    Tokens that `lead` makes less likely are so but for those that the caller weighs.
    """
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
    if lead.bias:
        asked["logit_bias"] = {**lead.bias, **(asked.get("logit_bias") or {})}
    return asked


@dataclass(frozen=True, slots=True)
class Lead:
    """How a model is led to French: an instruction, the beginning of its answer, and tokens made less likely.

    `strip`: white space before the first word is not delivered, nor is the beginning that goes before it.
    """

    instruction: str = ""
    begun: str = ""
    strip: bool = False
    bias: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """In which language an answer has to be: French is `due`, but for languages that were `asked` for.

    `bias` is against English words, for the target's own tokens.
    """

    due: bool = True
    asked: frozenset[str] = frozenset()
    bias: Mapping[str, float] = field(default_factory=dict)


FREE: Final = Wanted(due=False)


def lead(request: ChatRequest, ask: Ask, wanted: Wanted = FREE) -> Lead:
    """What leads the model of `ask`, after the measures of its target and whether it is asked firmly."""
    told, steering = instruction(ask, wanted), ask.pool.target.steering
    if ask.begun:
        return Lead(told, ask.begun, bias=wanted.bias)
    opening = ask.firm or (wanted.due and steering.opening)
    if opening and not wanted.asked and goes_on(request, ask):
        return Lead(told, OPENING, strip=True, bias=wanted.bias)
    return Lead(told, strip=ask.pool.target.trim_start, bias=wanted.bias)


def instruction(ask: Ask, wanted: Wanted) -> str:
    """What the model of `ask` is told about its language; empty where nothing is."""
    if ask.firm:
        return FIRM_INSTRUCTION_FOR.format(", ".join(sorted(wanted.asked))) if wanted.asked else FIRM_INSTRUCTION
    return INSTRUCTION if wanted.due and not wanted.asked and ask.pool.target.steering.instruction else ""


def goes_on(request: ChatRequest, ask: Ask) -> bool:
    """Whether the model can go on from an unfinished turn: vLLM's alone can, and not where tools are offered."""
    return (
        ask.pool.target.kind == "vllm"
        and "tools" not in request.raw
        and request.fields.messages[-1].role != "assistant"
    )


def body(request: ChatRequest, ask: Ask, lead: Lead) -> bytes:
    """The JSON body for a target: always streamed, always with usage."""
    target = ask.pool.target
    without = _OURS | _NOT_FOR_OPENAI if target.kind == "openai" else _OURS
    asked = streamed(request, target, target.defaults, lead, without=without)
    if (bound := request.max_tokens or ask.answer_tokens) is not None:
        asked.pop("max_tokens", None)
        # OpenAI deprecated max_tokens and refuses both at once; vLLM has known max_tokens the longest.
        left = max(1, bound - ask.delivered)
        asked["max_completion_tokens" if target.kind == "openai" else "max_tokens"] = left
    if stop := _stop(target, request.raw.get("stop")):
        asked["stop"] = stop
    messages = asked["messages"]
    if lead.instruction:
        messages = instructed(messages, lead.instruction)
    if lead.begun:
        asked |= opened(messages, lead.begun)
        messages = asked["messages"]
    if target.kind == "vllm":
        # "developer" is OpenAI's newer word for "system"; chat templates do not know it.
        messages = [{**turn, "role": "system"} if turn["role"] == "developer" else turn for turn in messages]
    asked["messages"] = messages
    return orjson.dumps(asked)


def _stop(target: Target, asked: str | list[str] | None) -> list[str]:
    # A base model's template needs its own stop strings whatever the caller adds.
    own = target.defaults.get("stop") or []
    return [*([asked] if isinstance(asked, str) else asked or []), *([own] if isinstance(own, str) else own)]
