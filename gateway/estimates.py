"""What a request may use at most, before any model is asked: tokens, and money."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from gateway.limits.policy import Use
from gateway.money import Tariff, nanos
from gateway.pool import Pool
from gateway.protocol import Request
from gateway.reckoning import Reckoner


class Estimates:
    """`tariff` gives the prices that hold now; `seconds` is how long a request may take at a model server."""

    def __init__(self, reckoner: Reckoner, tariff: Callable[[], Tariff], seconds: float) -> None:
        self._reckoner, self._tariff, self._seconds = reckoner, tariff, seconds

    async def most(self, request: Request, pools: Sequence[Pool]) -> Use:
        """The most that any of the targets can make of it."""
        tokens, money, tariff = 0, Decimal(0), self._tariff()
        for pool in pools:
            prompt = await self._reckoner.prompt_tokens(pool.target, request)
            answer = self._reckoner.answer_tokens(pool.target, request, prompt)
            tokens = max(tokens, prompt + answer)
            money = max(money, tariff.cost(pool.name, prompt, answer, self._seconds))
        return Use(request.model, tokens, nanos(money))
