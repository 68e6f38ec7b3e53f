"""`/v1/completions`: a prompt as it is, without a chat template (OpenAI API reference, "Create completion").

Inside the pipeline its chunks have the form of chat chunks, so that guards, repairs and time limits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway import parameters
from gateway.ask import FREE, Lead, Wanted, instruction, streamed
from gateway.errors import InvalidRequest
from gateway.events import Chunk, Part
from gateway.protocol import TextFields, TextRequest, check_stream_options, convert, decode
from gateway.routing import Ask
from gateway.target import Task

_OURS: Final = frozenset({"prompt", "passerelle"})
# What a target's defaults hold for its chat template alone.
_OF_CHAT: Final = frozenset({"stop", "chat_template_kwargs"})


class Fields(TextFields, kw_only=True):
    """The fields the gateway acts on, and their types."""

    prompt: str | list[Any]


class CompletionRequest(TextRequest, frozen=True, kw_only=True):
    """A checked request; `prompts` has at least one."""

    fields: Fields
    prompts: list[str]
    task: Task = "completions"

    @property
    def choices(self) -> int:
        """How many answers are asked for: `n` for each prompt."""
        return len(self.prompts) * (self.fields.n or 1)

    def texts(self) -> Sequence[str]:
        """The prompts."""
        return self.prompts

    said = texts


def parse(body: bytes, *, max_choices: int) -> CompletionRequest:
    """A body as a request; raises InvalidRequest as `protocol.parse` does."""
    raw = decode(body)
    parameters.check(raw, parameters.REFUSED_OF_COMPLETIONS)
    fields = convert(raw, Fields)
    check_stream_options(fields)
    request = CompletionRequest(raw=raw, fields=fields, prompts=texts_of(fields.prompt, "prompt"))
    if request.choices > max_choices:
        raise InvalidRequest(
            f"{request.choices} answers are asked for (prompts × n), but at most {max_choices} are served.", param="n"
        )
    return request


def texts_of(given: str | list[Any], param: str) -> list[str]:
    """A text or a list of texts as a list. Tokens are refused: no guard can read them, and they fit one tokenizer alone."""
    texts = [given] if isinstance(given, str) else given
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest(
            f"{param} must be a text or a list of texts, none of them empty; tokens are not accepted.", param=param
        )
    return texts


def lead(request: CompletionRequest, ask: Ask, wanted: Wanted = FREE) -> Lead:
    """What leads the model of `ask`, once it has left French: a bare prompt is the caller's alone until then."""
    told = instruction(ask, wanted) if ask.firm else ""
    return Lead(told, ask.begun, bias=wanted.bias)


def goes_on(request: CompletionRequest, ask: Ask) -> bool:
    """Whether the model can go on from what it has said, which is a longer prompt to it."""
    return ask.pool.target.kind == "vllm" and len(request.prompts) == 1 and "suffix" not in request.raw


def body(request: CompletionRequest, ask: Ask, lead: Lead) -> bytes:
    """The JSON body for a target: always streamed, always with usage."""
    target = ask.pool.target
    defaults = {key: value for key, value in target.defaults.items() if key not in _OF_CHAT}
    asked = streamed(request, target, defaults, lead, without=_OURS)
    # The instruction has to come before the text: behind it, it would be gone on from.
    prompt = request.raw["prompt"]
    given = prompt if isinstance(prompt, list) else [prompt]
    before = f"{lead.instruction}\n\n" if lead.instruction else ""
    prompts = [f"{before}{text}{lead.begun}" for text in given]
    asked["prompt"] = prompts if isinstance(prompt, list) else prompts[0]
    if request.max_tokens is not None and ask.delivered:
        asked["max_tokens"] = max(1, request.max_tokens - ask.delivered)
    return orjson.dumps(asked)


def read(parts: list[Part]) -> list[Part]:
    """A model server's chunks in the form of chat chunks."""
    return [_read(part) if isinstance(part, dict) else part for part in parts]


def _read(chunk: Chunk) -> Chunk:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return chunk
    return {**chunk, "choices": [_as_delta(choice) if isinstance(choice, dict) else choice for choice in choices]}


def write(chunk: Chunk) -> Chunk:
    """A chat chunk in the form that leaves."""
    return {**chunk, "choices": [_as_text(choice, choice["delta"]) for choice in chunk["choices"]]}


def whole(completion: dict[str, Any]) -> dict[str, Any]:
    """A collected chat completion in the form that leaves."""
    choices = [_as_text(choice, choice["message"]) for choice in completion["choices"]]
    return {**completion, "object": "text_completion", "choices": choices}


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    return {**_beside_text(choice), "delta": {"content": choice.get("text")}}


def _as_text(choice: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    return {"text": words.get("content") or "", **_beside_text(choice)}


def _beside_text(choice: dict[str, Any]) -> dict[str, Any]:
    return {key: choice.get(key) for key in ("index", "logprobs", "finish_reason")}
