"""What a request may use at most: by whom its answer is bounded, and what each of its targets would take for it."""

from decimal import Decimal
from typing import Any

import pytest

from gateway.estimates import Estimate, Estimates
from gateway.limits.policy import Use
from gateway.money import Tariff
from gateway.pool import Pool
from gateway.protocol import Request
from gateway.reckoning import Reckoner
from gateway.settings import Settings
from gateway.target import Price, Target
from tests.gateway.requests import pool_of
from tests.gateway.test_fit import continues, embeds, says

PROMPT = 100


class Hundred(Reckoner):
    """Every prompt has a hundred tokens."""

    async def prompt_tokens(self, target: Target, request: Request) -> int:
        return PROMPT


async def most(request: Request, *pools: Pool, seconds: float = 600) -> tuple[Use, dict[str, int]]:
    made = await estimated(request, *pools, seconds=seconds)
    assert made.prompt == min(PROMPT, made.use.tokens)
    return made.use, made.bounds


async def estimated(request: Request, *pools: Pool, seconds: float) -> Estimate:
    tariff = Tariff({pool.name: pool.target for pool in pools}, None)
    return await Estimates(Hundred(Settings()), lambda: tariff, seconds=seconds, answer_tokens=lambda: 4096).most(
        request, pools
    )


SMALL, LARGE, UNKNOWN = (
    pool_of(name="small", context_length=2048),
    pool_of(name="large", context_length=16_385),
    pool_of(name="unknown"),
)
TALKATIVE = pool_of(name="talkative", defaults={"max_tokens": 300})


@pytest.mark.parametrize(
    ("request_", "pools", "tokens", "bounds"),
    [
        pytest.param(says("x", max_tokens=50), [SMALL], 150, {}, id="as the caller says"),
        pytest.param(says("x", max_tokens=50, n=3), [SMALL], 250, {}, id="each of the choices"),
        pytest.param(says("x"), [SMALL], 2048, {}, id="the rest of the context"),
        pytest.param(says("x", n=2), [SMALL], PROMPT + 2 * 2047, {}, id="of the context, each choice"),
        pytest.param(says("x"), [UNKNOWN], PROMPT + 4096, {"unknown": 4096}, id="no context is known"),
        pytest.param(says("x"), [SMALL, LARGE], 2048, {"large": 1948}, id="whoever comes next, the same"),
        pytest.param(says("x"), [SMALL, UNKNOWN], 2048, {"unknown": 1948}, id="next, of an unknown context"),
        pytest.param(says("x"), [LARGE, SMALL], 16_385, {}, id="next, of a smaller context"),
        pytest.param(says("x"), [TALKATIVE], PROMPT + 300, {}, id="the target's own default"),
        pytest.param(says("x", max_tokens=9), [TALKATIVE], PROMPT + 9, {}, id="the caller before the default"),
        pytest.param(continues("x", "y", max_tokens=10), [SMALL], 120, {}, id="prompts"),
        pytest.param(continues("x"), [SMALL], 116, {}, id="prompts without a bound"),
        pytest.param(embeds("x"), [UNKNOWN], 100, {}, id="embeddings"),
    ],
)  # fmt: skip
async def test_tokens(request_: Request, pools: list[Pool], tokens: int, bounds: dict[str, int]) -> None:
    use, told = await most(request_, *pools)
    assert (use.tokens, use.model, told) == (tokens, request_.model, bounds)


def priced(name: str, **fields: Any) -> Pool:
    return pool_of(name=name, context_length=2048, **fields)


async def test_money_is_that_of_the_dearest_target_and_of_the_longest_time() -> None:
    cheap = priced("cheap", price=Price(input=Decimal(1), output=Decimal(2)))
    dear = priced("dear", price=Price(input=Decimal(10), output=Decimal(20)))
    own = priced("own", price_per_hour=Decimal("3.6"))
    asked = says("x", max_tokens=50)
    assert (await most(asked, cheap))[0].money == 200_000  # (100 × 1 + 50 × 2) / 10^6 of the currency
    assert (await most(asked, cheap, dear))[0].money == 2_000_000
    assert (await most(asked, own, cheap, seconds=10))[0].money == 10_000_000  # 3.6 / 3600 × 10
    assert (await most(asked, SMALL))[0].money == 0
