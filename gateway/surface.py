"""The two ways to ask for text: turns (`/v1/chat/completions`) and a bare prompt (`/v1/completions`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway import ask, completions
from gateway.protocol import Request
from gateway.routing import Ask
from gateway.upstream import Chunk


@dataclass(frozen=True)
class Surface:
    """How requests go up, and how answers leave. Inside the pipeline every chunk has the form of a chat chunk.

    `path` is the model server's, below its base URL; `prefix` begins the ids of answers, `object` names their chunks.
    """

    path: str
    prefix: str
    object: str
    body: Callable[[Any, Ask], bytes]
    begun: Callable[[Any, Ask], bool]
    read: Callable[[Chunk], Chunk]
    write: Callable[[Chunk], Chunk]
    whole: Callable[[dict[str, Any]], dict[str, Any]]


def _unchanged(chunk: Chunk) -> Chunk:
    return chunk


def _not_begun(_: Request, __: Ask) -> bool:
    return False


CHAT: Final = Surface(
    path="chat/completions",
    prefix="chatcmpl-",
    object="chat.completion.chunk",
    body=ask.body,
    begun=lambda request, to: to.pool.target.trim_start or ask.has_opening(request, to),
    read=_unchanged,
    write=_unchanged,
    whole=_unchanged,
)
COMPLETIONS: Final = Surface(
    path="completions",
    prefix="cmpl-",
    object="text_completion",
    body=completions.body,
    begun=_not_begun,
    read=completions.read,
    write=completions.write,
    whole=completions.whole,
)
