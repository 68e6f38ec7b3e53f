"""A client that leaves takes its work with it: the upstream connection is closed within a second."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.house import MODEL, House
from tests.upstream import Exchange, chunk

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Comment suivre mon avis ?"}]}


async def never_begins(exchange: Exchange) -> None:
    await exchange.closed.wait()


async def never_ends(exchange: Exchange) -> None:
    await exchange.head()
    while not exchange.closed.is_set():
        await exchange.text("mot ")
        await asyncio.sleep(0.02)


async def test_an_answer_given_up_half_way_is_charged_as_vllm_counts(plain_home: House) -> None:
    async def counts(exchange: Exchange) -> None:
        await exchange.head()
        for number in range(1, 4):
            counted = {"prompt_tokens": 212, "completion_tokens": number, "total_tokens": 212 + number}
            await exchange.event({**chunk({"content": "mot "}), "usage": counted})
        await exchange.closed.wait()

    plain_home.local.answers(counts)
    client = plain_home.client()
    raw = await client.chat.completions.with_raw_response.create(**ASK, stream=True)
    stream = raw.parse()
    heard = ""
    while heard.count("mot") < 3:  # tokens that come together may leave together
        heard += (await anext(aiter(stream))).choices[0].delta.content or ""
    await stream.close()
    (row,) = await plain_home.ledger(raw.headers["x-request-id"])
    assert (row["state"], row["prompt_tokens"], row["completion_tokens"]) == ("client_closed", 212, 3)
    assert row["usage_source"] == "upstream"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [never_begins, never_ends])
async def test_the_upstream_connection_closes_when_the_client_leaves(
    plain_home: House, stream: bool, script: Any
) -> None:
    plain_home.local.answers(script)
    headers = {"authorization": f"Bearer {plain_home.token()}", "x-request-id": "left"}
    async with aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(_ask(session, plain_home.url, headers, stream=stream))
        while not plain_home.local.asked:  # noqa: ASYNC110  # the condition is the fake's, seen from outside
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait({asking})
    async with asyncio.timeout(1):
        await plain_home.local.asked[0].closed.wait()
    rows = await plain_home.ledger("left")
    assert [(row["kind"], row["state"]) for row in rows] == [("settle", "client_closed")]
    assert rows[0]["prompt_tokens"] > 0  # what was computed until then is charged
    assert plain_home.outside.asked == []  # a client that left is no upstream failure


async def _ask(session: aiohttp.ClientSession, url: str, headers: dict[str, str], *, stream: bool) -> None:
    async with session.post(f"{url}/v1/chat/completions", json={**ASK, "stream": stream}, headers=headers) as answer:
        await answer.read()
