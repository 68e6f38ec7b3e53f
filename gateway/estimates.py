"""What a request may use at most, before any model is asked: tokens, and money.

The first target's context bounds an answer whose caller sets no bound. A target that is asked in its place gets that bound in
the request, so that what was reserved is enough for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from gateway import money
from gateway.fit import least_tokens
from gateway.limits.policy import Use
from gateway.money import Tariff
from gateway.pool import Pool
from gateway.protocol import Request
from gateway.reckoning import Reckoner

_OF_COMPLETIONS: Final = 16  # tokens, where nobody says (OpenAI API reference, "Create completion"; vLLM does the same)


class Estimate(NamedTuple):
    """`use`, `prompt` tokens of it in the prompt; and for targets that have to be told one, the bound of an answer."""

    use: Use
    bounds: dict[str, int]
    prompt: int = 0


class Estimates:
    """`tariff` gives the prices that hold now; `seconds` is how long a request may take at a model server.

    `answer_tokens` bounds an answer where neither the caller nor the context does.
    """

    def __init__(
        self, reckoner: Reckoner, tariff: Callable[[], Tariff], *, seconds: float, answer_tokens: Callable[[], int]
    ) -> None:
        self._reckoner, self._tariff, self._seconds, self._unbounded = reckoner, tariff, seconds, answer_tokens

    async def most(self, request: Request, pools: Sequence[Pool]) -> Estimate:
        """The most that any of the targets can make of it; `pools` has at least one."""
        tokens, longest, cost, bounds, tariff = 0, 0, Decimal(0), dict[str, int](), self._tariff()
        first = self._answer(request, pools[0])
        prompts = [await self._reckoner.prompt_tokens(pool.target, request) for pool in pools]
        whole = pools[0].context_length or prompts[0] + first
        for place, (pool, prompt) in enumerate(zip(pools, prompts, strict=True)):
            length = pool.context_length
            answer = _said(request, pool)
            if answer is None:
                answer = first
                if length is None or (place and length > prompt + first):
                    answer = bounds[pool.name] = max(1, whole - prompt)
            if length is not None:
                answer = min(answer, length)
            used = prompt + answer * request.choices
            if length is not None and request.task == "chat" and request.choices == 1:
                used = min(used, length)  # together they are never more
            if used > tokens:
                tokens, longest = used, min(prompt, used)
            cost = max(cost, tariff.cost(pool.name, prompt, answer * request.choices, self._seconds))
        return Estimate(Use(request.model, tokens, money.nanos(cost) if cost else 0), bounds, longest)

    def _answer(self, request: Request, pool: Pool) -> int:
        """The most tokens of one answer of the target asked first."""
        said = _said(request, pool)
        if said is not None:
            return said
        if pool.context_length is None:
            return self._unbounded()
        # By the least that the prompt can have: what is left for the answer is the more.
        return max(1, pool.context_length - max(1, least_tokens(request)))


def _said(request: Request, pool: Pool) -> int | None:
    """How long an answer may be by the caller, by the target's defaults, or by the nature of the request; None if nobody says."""
    if request.task == "embeddings":
        return 0
    if request.max_tokens is not None:
        return request.max_tokens
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(default := pool.target.defaults.get(name), int):
            return default
    return _OF_COMPLETIONS if request.task == "completions" else None
