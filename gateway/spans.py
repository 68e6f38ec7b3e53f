"""The steps of a request, for whoever records them. Here nobody does: `gateway.tracing` has the spans that are recorded."""

from __future__ import annotations

from typing import Final, Self


class Span:
    """A step that is recorded nowhere. As a context it ends itself."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def step(self, name: str) -> Span:
        """Begin a step inside this one."""
        return self

    def call(self, name: str) -> Span:
        """Begin the asking of a model server, of which more is known when the request has ended."""
        return self

    def event(self, name: str) -> None:
        """Something happened now."""

    def begun(self) -> None:
        """The server that is asked has begun to answer; may be told more than once."""

    def headers(self, *, outside: bool) -> dict[str, str]:
        """What a server is told so that its own spans join this one."""
        return {}

    def stop(self) -> None:
        """The step has ended; must be told once."""


UNSEEN: Final = Span()
