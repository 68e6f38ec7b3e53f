"""Bytes of a request -> what the gateway acts on; everything else passes through untouched.

The shapes are those of the OpenAI API reference, "Create chat completion". Only fields that decide something here are
checked here; the rest is the model server's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

import msgspec
import orjson

from gateway import parameters
from gateway.errors import InvalidRequest, PayloadTooLarge
from gateway.target import Task

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
# The field that holds a request's words, by its task.
TEXTS: Final[Mapping[Task, str]] = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_LEVELS: Final = 200  # orjson writes 254, and templates and defaults go around a body
Shape = TypeVar("Shape", bound=msgspec.Struct)


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The field `passerelle`, ours alone: languages (ISO 639-1) an answer may have beside French; whether to tell the audit."""

    languages: Annotated[list[Annotated[str, msgspec.Meta(pattern="^[a-z]{2}$")]], msgspec.Meta(max_length=10)] = []
    audit: bool = False


NO_WISHES: Final = Wishes()


class Request(Protocol):
    """What the pipeline wants to know of a checked request, whatever it asks for.

    `raw` is the whole body as it came, for the model server; `max_tokens` the caller's bound on an answer; `choices` how many
    answers are asked for; `wishes` what is asked of the gateway itself. Of the `texts`, those that somebody `said` who chats are
    not trusted, `latest` is what was said since the last answer, and the `instructions` are the application's; the rest are
    answers and documents.
    """

    @property
    def raw(self) -> dict[str, Any]: ...  # noqa: D102  # the class says it
    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def stream(self) -> bool: ...  # noqa: D102
    @property
    def include_usage(self) -> bool: ...  # noqa: D102
    @property
    def max_tokens(self) -> int | None: ...  # noqa: D102
    @property
    def choices(self) -> int: ...  # noqa: D102
    @property
    def wishes(self) -> Wishes: ...  # noqa: D102
    def texts(self) -> Sequence[str]: ...  # noqa: D102
    def said(self) -> Sequence[str]: ...  # noqa: D102
    def latest(self) -> Sequence[str]: ...  # noqa: D102
    def instructions(self) -> Sequence[str]: ...  # noqa: D102
    def images(self) -> Iterator[str]: ...  # noqa: D102


class ImageUrl(msgspec.Struct):
    """Where an image is: at an address, or in the address itself (`data:`)."""

    url: Annotated[str, msgspec.Meta(min_length=1)]


class ContentPart(msgspec.Struct):
    """One part of a message. A part of another kind would carry to the model what no guard can read."""

    type: Literal["text", "refusal", "image_url"]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None


class Message(msgspec.Struct):
    """One turn. `content` is absent only where an assistant called tools."""

    role: Role
    content: str | list[ContentPart] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    def text(self) -> str:
        """The words of the message, parts joined by a line break."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(text for part in self.content or () if (text := part.text or part.refusal))


class StreamOptions(msgspec.Struct):
    """`include_usage` asks for one last chunk that carries the usage."""

    include_usage: bool | None = None


class ModelFields(msgspec.Struct, kw_only=True):
    """What every request has."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    passerelle: Wishes | None = None


class TextFields(ModelFields, kw_only=True):
    """What every request for text has."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Fields(TextFields, kw_only=True):
    """The fields of a chat completion that the gateway acts on, and their types."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stop: str | list[str] | None = None


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request. `raw` is the whole body as it came, for the model server."""

    raw: dict[str, Any]
    fields: ModelFields

    @property
    def model(self) -> str:
        """The published name asked for."""
        return self.fields.model

    @property
    def wishes(self) -> Wishes:
        """What is asked of the gateway itself."""
        return self.fields.passerelle or NO_WISHES

    def said(self) -> Sequence[str]:
        """What somebody says to a model; none where nothing is answered."""
        return ()

    def latest(self) -> Sequence[str]:
        """What was said since the last answer; all of it where there are no turns."""
        return self.said()

    def instructions(self) -> Sequence[str]:
        """What the application tells a model to do; none where there are no turns."""
        return ()

    def images(self) -> Iterator[str]:
        """The addresses of all images; none where a request holds only text."""
        return iter(())


class TextRequest(ModelRequest, frozen=True, kw_only=True):
    """A checked request for text, streamed or plain."""

    fields: TextFields

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
        """The caller's bound on an answer, in tokens."""
        return self.fields.max_tokens

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        return self.fields.n or 1


class ChatRequest(TextRequest, frozen=True, kw_only=True):
    """A checked request for a chat completion."""

    fields: Fields
    turns: list[tuple[Role, str]]  # who said what
    parts: list[ContentPart]  # of all messages whose content comes in parts
    task: Task = "chat"

    @property
    def max_tokens(self) -> int | None:
        """The caller's bound on an answer, in tokens, whichever of the two names it came under."""
        return self.fields.max_completion_tokens or self.fields.max_tokens

    def texts(self) -> Sequence[str]:
        """The words of every message, in order."""
        return [text for _, text in self.turns]

    def said(self) -> Sequence[str]:
        """The words of the user's messages."""
        return [text for role, text in self.turns if role == "user"]

    def latest(self) -> Sequence[str]:
        """The words of the user's messages after the last one of the assistant."""
        answered = max([place for place, (role, _) in enumerate(self.turns) if role == "assistant"], default=-1)
        return [text for role, text in self.turns[answered + 1 :] if role == "user"]

    def instructions(self) -> Sequence[str]:
        """The words of the system's messages."""
        return [text for role, text in self.turns if role in ("system", "developer")]

    def images(self) -> Iterator[str]:
        """The addresses of all images."""
        return (part.image_url.url for part in self.parts if part.image_url is not None)


def parse(body: bytes, *, max_choices: int) -> ChatRequest:
    """A body as a request.

    Raises:
        InvalidRequest: no JSON (or nested too deep, or not UTF-8, or half a surrogate pair), or a wrong field.
    """
    raw = decode(body)
    parameters.check(raw, parameters.REFUSED_OF_CHAT)
    fields = convert(raw, Fields)
    parts = _parts(fields.messages)
    if fields.n is not None and fields.n > max_choices:
        raise InvalidRequest(f"n is {fields.n}, but at most {max_choices} choices are served.", param="n")
    if fields.max_tokens and fields.max_completion_tokens and fields.max_tokens != fields.max_completion_tokens:
        raise InvalidRequest("max_tokens and max_completion_tokens disagree: send one of them.", param="max_tokens")
    check_stream_options(fields)
    turns = [(message.role, message.text()) for message in fields.messages]
    return ChatRequest(raw=raw, fields=fields, turns=turns, parts=parts)


def check_stream_options(fields: TextFields) -> None:
    """Raise InvalidRequest if a call that is not streamed has options for streams, as OpenAI does."""
    if fields.stream_options is not None and not fields.stream:
        raise InvalidRequest("stream_options is only allowed when stream is true.", param="stream_options")


def _parts(messages: list[Message]) -> list[ContentPart]:
    found: list[ContentPart] = []
    for turn, message in enumerate(messages):
        if isinstance(message.content, list):
            for number, part in enumerate(message.content):
                if (part.type == "image_url") != (part.image_url is not None):
                    place = f"messages[{turn}].content[{number}]"
                    raise InvalidRequest(
                        f"{place} must have image_url if, and only if, its type is image_url.", param=place
                    )
            found += message.content
    return found


def decode(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. orjson refuses what later encoders choke on: lone surrogates and NaN.

    It reads 1,024 levels but writes 254 alone, so deeper ones are refused too: they could not go to a model server.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is not valid JSON in UTF-8.") from None
    if not isinstance(raw, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if body.count(b"[") + body.count(b"{") > _LEVELS:
        try:
            orjson.dumps(raw)
        except orjson.JSONEncodeError:
            raise InvalidRequest(f"The body is nested more than {_LEVELS} levels deep.") from None
    return raw


def convert(raw: dict[str, Any], shape: type[Shape]) -> Shape:
    """A JSON object as a typed one; raises InvalidRequest that names the field."""
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").removeprefix(".") or None
        raise InvalidRequest(f"{message}{f' at {param}' if param else ''}.", param=param) from None


def too_large(limit: int) -> PayloadTooLarge:
    """The error for a body over `limit` bytes."""
    return PayloadTooLarge(f"The request body is over the limit of {limit} bytes.")
