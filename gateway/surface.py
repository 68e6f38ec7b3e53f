"""The two ways to ask for text: turns (`/v1/chat/completions`) and a bare prompt (`/v1/completions`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway import ask, completions
from gateway.ask import Lead, Wanted
from gateway.events import Chunk, Part
from gateway.routing import Ask

Given = TypeVar("Given")


@dataclass(frozen=True)
class Surface:
    """How requests go up, and how answers leave. Inside the pipeline every chunk has the form of a chat chunk.

    `path` is the model server's, below its base URL; `prefix` begins the ids of answers, `object` names their chunks.
    """

    path: str
    prefix: str
    object: str
    lead: Callable[[Any, Ask, Wanted], Lead]
    goes_on: Callable[[Any, Ask], bool]
    body: Callable[[Any, Ask, Lead], bytes]
    read: Callable[[list[Part]], list[Part]]
    write: Callable[[Chunk], Chunk]
    whole: Callable[[dict[str, Any]], dict[str, Any]]


def _unchanged(given: Given) -> Given:
    return given


CHAT: Final = Surface(
    path="chat/completions",
    prefix="chatcmpl-",
    object="chat.completion.chunk",
    lead=ask.lead,
    goes_on=ask.goes_on,
    body=ask.body,
    read=_unchanged,
    write=_unchanged,
    whole=_unchanged,
)
COMPLETIONS: Final = Surface(
    path="completions",
    prefix="cmpl-",
    object="text_completion",
    lead=completions.lead,
    goes_on=completions.goes_on,
    body=completions.body,
    read=completions.read,
    write=completions.write,
    whole=completions.whole,
)
