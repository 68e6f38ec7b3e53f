"""How many tokens a request may have at most."""

from __future__ import annotations

from gateway.protocol import Request
from gateway.target import Target


class Reckoner:
    """A stated bound: one token a byte."""

    async def prompt_tokens(self, target: Target, request: Request) -> int:
        """Of the prompt."""
        return 16 + sum(16 + len(text.encode()) for text in request.texts())
