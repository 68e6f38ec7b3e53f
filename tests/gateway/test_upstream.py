import asyncio

import pytest

from gateway.events import Run
from gateway.failure import Failure
from gateway.settings import Times
from gateway.upstream import Stream, Upstream
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


async def breaks(exchange: Exchange) -> None:
    await exchange.head()
    for text in ("un ", "deux "):
        await exchange.text(text)
        await asyncio.sleep(0.02)
    exchange.hang_up()


async def gather(stream: Stream, said: list[str]) -> None:
    """Reads to the end."""
    while (parts := await stream.parts()) is not None:
        said += [text for part in parts if isinstance(part, Run) for text in part.texts]


async def test_what_came_before_the_connection_broke_is_read_also_where_a_stream_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.pace.EACH", 0.1)
    said: list[str] = []
    async with asyncio.timeout(5), upstream() as server, Upstream(Times()) as pool:
        server.answers(breaks)
        async with pool.stream(f"{server.url}/chat/completions", None, b"{}", "r") as stream:
            with pytest.raises(Failure, match="cut"):
                await gather(stream, said)
    assert "".join(said) == "un deux "
