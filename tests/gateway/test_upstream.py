import asyncio

import pytest

from gateway.failure import Failure
from gateway.settings import Times
from gateway.upstream import Upstream
from tests.upstream import Exchange, Script, chunk, upstream


async def flood(exchange: Exchange) -> None:
    await exchange.head()
    while True:
        await exchange.text(*["mot "] * 50)


async def deep(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event(chunk({"content": "Bonjour."}))
    await exchange.event('{"choices": [], "x": ' + "[" * 5000 + "]" * 5000 + "}")
    await exchange.end()


async def read(script: Script, times: Times, pause: float = 0.0) -> None:
    """Reads an answer to its end, in five seconds at most."""
    async with asyncio.timeout(5), upstream() as server, Upstream(times) as pool:
        server.answers(script)
        async with pool.stream(f"{server.url}/chat/completions", None, b"{}", "r") as stream:
            while await stream.parts() is not None:  # noqa: ASYNC110  # what it waits for is the network
                await asyncio.sleep(pause)


@pytest.mark.parametrize("pause", [0.0, 0.01], ids=["a quick reader", "a slow one, who always finds more"])
async def test_the_total_limit_ends_an_answer_that_never_ends(pause: float) -> None:
    with pytest.raises(Failure, match="limit"):
        await read(flood, Times(total=0.5), pause)


async def test_what_nobody_can_read_is_a_failure() -> None:
    with pytest.raises(Failure, match="not JSON"):
        await read(deep, Times())
