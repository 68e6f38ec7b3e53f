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


@dataclass
class Moments:
    """The seconds of one streamed answer on the clock of `started`; what did not happen is None."""

    started: float
    first: float | None = None
    last: float | None = None
    gaps: list[float] = field(default_factory=list)

    def content(self, now: float) -> None:
        """A piece of content has arrived."""
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
            return
        if has_content(event):
            moments.content(now)
    raise Failed("ended without [DONE]")


def has_content(event: bytes) -> bool:
    """Whether a chunk brings text: role, usage and finish chunks do not. Raises Failed for an error event."""
    chunk = parsed(event)
    if "error" in chunk:
        raise Failed(f"error event: {reason(event)}")
    choices = chunk.get("choices") or []
    return any(isinstance(choice, dict) and (choice.get("delta") or {}).get("content") for choice in choices)


def check_plain(body: bytes) -> None:
    """Raise Failed unless the body is a chat completion with text in it."""
    choices = parsed(body).get("choices") or []
    if not any(isinstance(choice, dict) and (choice.get("message") or {}).get("content") for choice in choices):
        raise Failed("no content")


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


def parsed(text: bytes) -> dict[str, Any]:
    """A JSON object; raises Failed for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        raise Failed("not JSON") from None
    if not isinstance(value, dict):
        raise Failed("not a JSON object")
    return value
