"""`/v1/completions`: a prompt as it is, without a chat template (OpenAI API reference, "Create completion").

Inside the pipeline its chunks have the form of chat chunks, so that guards, repairs and time limits are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import orjson

from gateway import parameters
from gateway.ask import FIRM_INSTRUCTION, streamed
from gateway.errors import InvalidRequest
from gateway.protocol import StreamOptions, check_stream_options, convert, decode
from gateway.routing import Ask
from gateway.target import Task
from gateway.upstream import Chunk

_OURS: Final = frozenset({"model", "prompt", "stream", "stream_options"})
# What a target's defaults hold for its chat template alone.
_OF_CHAT: Final = frozenset({"stop", "chat_template_kwargs"})


class Fields(msgspec.Struct):
    """The fields the gateway acts on, and their types."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    prompt: str | list[Any]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class CompletionRequest(msgspec.Struct, frozen=True):
    """A checked request; `prompts` has at least one."""

    raw: dict[str, Any]
    fields: Fields
    prompts: list[str]
    task: Task = "completions"

    @property
    def model(self) -> str:
        """The published name asked for."""
        return self.fields.model

    @property
    def stream(self) -> bool:
        """Whether the caller wants server-sent events."""
        return bool(self.fields.stream)

    @property
    def include_usage(self) -> bool:
        """Whether a streaming caller asked for the usage chunk."""
        return bool(self.fields.stream_options and self.fields.stream_options.include_usage)

    @property
    def max_tokens(self) -> int | None:
        """The caller's bound on each answer, in tokens."""
        return self.fields.max_tokens

    @property
    def choices(self) -> int:
        """How many answers are asked for: `n` for each prompt."""
        return len(self.prompts) * (self.fields.n or 1)

    def texts(self) -> Iterator[str]:
        """The prompts."""
        return iter(self.prompts)

    def images(self) -> Iterator[str]:
        """None: a prompt is text."""
        return iter(())


def parse(body: bytes, *, max_choices: int) -> CompletionRequest:
    """A body as a request; raises InvalidRequest as `protocol.parse` does."""
    raw = decode(body)
    parameters.check(raw, parameters.REFUSED_OF_COMPLETIONS)
    fields = convert(raw, Fields)
    check_stream_options(fields.stream_options, fields.stream)
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


def body(request: CompletionRequest, ask: Ask) -> bytes:
    """The JSON body for a target: always streamed, always with usage."""
    target = ask.pool.target
    asked: dict[str, Any] = {
        **{key: value for key, value in target.defaults.items() if key not in _OF_CHAT},
        **{key: value for key, value in request.raw.items() if key not in _OURS},
        **streamed(target),
    }
    # An instruction is all that can be said to a model without turns, and it has to come before the text.
    prompts = [f"{FIRM_INSTRUCTION}\n\n{prompt}" for prompt in request.prompts] if ask.firm else request.prompts
    asked["prompt"] = prompts if isinstance(request.fields.prompt, list) else prompts[0]
    if (request.fields.n or 1) > 1 and "temperature" not in request.raw:
        asked.pop("temperature", None)  # greedy, a default of small models, allows one choice only
    return orjson.dumps(asked)


def read(chunk: Chunk) -> Chunk:
    """A model server's chunk in the form of a chat chunk."""
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
    rest = {key: choice.get(key) for key in ("index", "logprobs", "finish_reason")}
    return {**rest, "delta": {"content": choice.get("text")}}


def _as_text(choice: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    rest = {key: choice.get(key) for key in ("index", "logprobs", "finish_reason")}
    return {"text": words.get("content") or "", **rest}
