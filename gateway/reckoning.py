"""How many tokens a request may have at most."""

from __future__ import annotations

from gateway.protocol import Request
from gateway.target import Target


class Reckoner:
    """A stated bound: one token a byte."""

    async def prompt_tokens(self, target: Target, request: Request) -> int:
        """Of the prompt."""
        return 16 + sum(16 + len(text.encode()) for text in request.texts())

    def answer_tokens(self, target: Target, request: Request, prompt: int) -> int:
        """Of the answers."""
        if request.task == "embeddings":
            return 0
        bound = request.max_tokens or max(1, (target.context_length or 4096 + prompt) - prompt)
        return bound * request.choices
