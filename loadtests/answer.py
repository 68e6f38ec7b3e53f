"""What is measured of one answer, and what counts as a failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from loadtests.sse import events

_DONE = b"[DONE]"


class Failed(Exception):
    """An exchange that failed; the message is the name under which such failures are counted, so it has no details."""


class Limited(Exception):
    """A 429: the caller met a limit, which is neither success nor failure of the service.

    `complete` is whether it says when to come back (Retry-After) and which limit it was (the error's code).
    """

    def __init__(self, *, complete: bool) -> None:
        super().__init__("429")
        self.complete = complete


@dataclass
class Moments:
    """The seconds of one answer on the clock of `started`, and its text; what did not happen is None.

    `started` is when the question was due, or sent where no time was set; `first`, `last` and `gaps` are of streamed answers.
    """

    started: float
    first: float | None = None
    last: float | None = None
    ended: float | None = None
    gaps: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def content(self, piece: str, now: float) -> None:
        """A piece of content has arrived."""
        self.pieces.append(piece)
        if self.last is not None:
            self.gaps.append(now - self.last)
        else:
            self.first = now
        self.last = now


def follow(lines: Iterable[bytes], moments: Moments, clock: Callable[[], float]) -> None:
    """Note when content arrives, until `[DONE]`. Raises Failed when an error comes instead, or the end before it."""
    for event in events(lines):
        now = clock()
        if event == _DONE:
            if moments.first is None:
                raise Failed("no content")
            moments.ended = now
            return
        if piece := content(event):
            moments.content(piece, now)
    raise Failed("ended without [DONE]")


def content(event: bytes) -> str:
    """The text of a chunk: role, usage and finish chunks have none. Raises Failed for an error event."""
    chunk = parsed(event)
    if "error" in chunk:
        raise Failed(f"error event: {reason(event)}")
    return _texts(chunk, "delta")


def text(body: bytes) -> str:
    """The text of a chat completion; raises Failed when there is none."""
    found = _texts(parsed(body), "message")
    if not found:
        raise Failed("no content")
    return found


def _texts(answer: dict[str, Any], part: str) -> str:
    choices = answer.get("choices") or []
    return "".join((choice.get(part) or {}).get("content") or "" for choice in choices if isinstance(choice, dict))


def reason(body: bytes) -> str:
    """The code or type of an OpenAI error object, or of an OAuth one; empty for anything else."""
    try:
        error = parsed(body).get("error")
    except Failed:
        return ""
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or "")
    return error if isinstance(error, str) else ""


def first_model(body: bytes) -> str:
    """The first name in a list of models; raises Failed when there is none."""
    models = parsed(body).get("data") or []
    names = [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]
    if not names:
        raise Failed("no model is published")
    return names[0]


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object; raises Failed for anything else."""
    try:
        value = json.loads(body)
    except ValueError:
        raise Failed("not JSON") from None
    if not isinstance(value, dict):
        raise Failed("not a JSON object")
    return value
