"""More requests than a target takes: they wait, go on to the next target, or are told when to come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.house import MODEL, House, house
from tests.upstream import Exchange, Script, chunk, says

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Comment suivre mon avis ?"}]}
WAITING, IN_FLIGHT = "passerelle_queue_waiting", "passerelle_target_in_flight"
TEXT = "Voici une réponse tout à fait française. "


@asynccontextmanager
async def narrow(folder: Path, times: dict[str, Any] | None = None, **local: Any) -> AsyncIterator[House]:
    """A gateway whose local target takes one request at once, unless told otherwise."""
    async with house(
        folder, times={"first_content": 20, **(times or {})}, targets={"local": {"concurrency": 1, **local}}
    ) as running:
        yield running


def when(told: asyncio.Event) -> Script:
    """An answer that is begun when the test says so."""

    async def script(exchange: Exchange) -> None:
        await told.wait()
        await says(TEXT)(exchange)

    return script


async def answered(home: House, **token: Any) -> str:
    """The target that answered."""
    raw = await home.client(**token).chat.completions.with_raw_response.create(**ASK)
    return str(raw.headers["x-passerelle-target"])


async def shown(home: House, gauge: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{home.url}/metrics") as answer:
        text = await answer.text()
    return int(float(text.partition(f'{gauge}{{target="local"}} ')[2].partition("\n")[0]))


async def until(home: House, gauge: str, least: int, most: int | None = None, *, seconds: float = 5) -> None:
    """Wait until a gauge lies between the two, or is exactly the one."""
    async with asyncio.timeout(seconds):
        while not least <= await shown(home, gauge) <= (least if most is None else most):  # noqa: ASYNC110  # seen from outside
            await asyncio.sleep(0.01)


async def occupied(home: House, **token: Any) -> asyncio.Task[str]:
    """A request that has the local target's only place until its script lets it go."""
    first = asyncio.create_task(answered(home, **token))
    await until(home, IN_FLIGHT, 1)
    return first


async def test_requests_wait_for_a_place_and_are_answered_in_turn(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with narrow(tmp_path) as home:
        home.local.answers(when(go))
        first = await occupied(home)
        others = [asyncio.create_task(answered(home)) for _ in range(5)]
        await until(home, WAITING, 5)
        assert len(home.local.asked) == 1
        go.set()
        assert {await task for task in (first, *others)} == {"local"}
        assert len(home.local.asked) == 6
        assert home.outside.asked == []
        assert (await shown(home, WAITING), await shown(home, IN_FLIGHT)) == (
            0,
            0,
        )


async def test_over_the_bound_requests_go_on_to_the_next_target_where_their_text_may_leave(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with narrow(tmp_path, queue_length=0) as home:
        home.local.answers(when(go))
        first = await occupied(home)
        assert await answered(home) == "outside"
        with pytest.raises(openai.InternalServerError) as refused:
            await answered(home, may_leave=False, tenant="privé")
        assert (refused.value.status_code, refused.value.code) == (503, "overloaded")
        assert int(refused.value.response.headers["retry-after"]) >= 1
        assert len(home.outside.asked) == 1
        rows = await home.ledger(refused.value.response.headers["x-request-id"])
        assert [(row["kind"], row["state"], row["error"]) for row in rows] == [("release", "refused", "overloaded")]
        go.set()
        assert await first == "local"


async def test_a_request_whose_turn_does_not_come_in_time_goes_on_to_the_next_target(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with narrow(tmp_path, queue_seconds=0.05) as home:
        home.local.answers(when(go))
        first = await occupied(home)
        assert await answered(home) == "outside"
        go.set()
        assert await first == "local"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_the_queue_is_out_of_it_within_a_second(tmp_path: Path, stream: bool) -> None:
    go = asyncio.Event()
    async with narrow(tmp_path) as home:
        home.local.answers(when(go))
        first = await occupied(home)
        headers = {"authorization": f"Bearer {home.token()}", "x-request-id": "left"}
        async with aiohttp.ClientSession() as session:
            url, body = f"{home.url}/v1/chat/completions", {**ASK, "stream": stream}
            asking = asyncio.ensure_future(session.post(url, json=body, headers=headers).__aenter__())
            await until(home, WAITING, 1)
            asking.cancel()
            await asyncio.wait({asking})
        await until(home, WAITING, 0, seconds=1)
        (row,) = await home.ledger("left")
        assert (row["kind"], row["state"]) == ("release", "client_closed")  # nothing was computed, nothing is charged
        go.set()
        assert await first == "local"
        assert len(home.local.asked) == 1
        assert home.outside.asked == []


async def test_a_thousand_requests_of_one_tenant_do_not_starve_anothers_one(tmp_path: Path) -> None:
    async def takes_a_moment(exchange: Exchange) -> None:
        await asyncio.sleep(0.01)
        await says(TEXT)(exchange)

    # So many callers in the gateway's own process keep it from a connection that is there for a second, on a slow machine.
    async with narrow(tmp_path, times={"connect": 20}, concurrency=4, queue_length=1000) as home:
        home.local.answers(takes_a_moment)
        headers = {"authorization": f"Bearer {home.token(tenant='crowd', may_leave=False)}"}
        connector, done = aiohttp.TCPConnector(limit=0), 0

        async def one_of_many(session: aiohttp.ClientSession) -> int:
            nonlocal done
            async with session.post(f"{home.url}/v1/chat/completions", json=ASK, headers=headers) as answer:
                await answer.read()
            done += 1
            return answer.status

        async with aiohttp.ClientSession(connector=connector) as session:
            crowd = [asyncio.create_task(one_of_many(session)) for _ in range(1000)]
            await until(home, WAITING, 400, 1000)
            before = done
            assert await answered(home, tenant="quiet", may_leave=False) == "local"
            overtaken = done - before
            statuses = await asyncio.gather(*crowd)
        assert overtaken < 100  # of the hundreds that came first
        assert set(statuses) == {200}


async def test_a_request_keeps_its_place_for_the_second_try(tmp_path: Path) -> None:
    english = says("I am sorry, but this answer is written in plain English. ", "It goes on and on in English. ")
    held = asyncio.Event()

    async def drifts_when_told(exchange: Exchange) -> None:
        await held.wait()
        await english(exchange)

    async with narrow(tmp_path) as home:
        home.local.answers(drifts_when_told, says(TEXT), says(TEXT))
        first = await occupied(home)
        second = asyncio.create_task(answered(home))
        await until(home, WAITING, 1)
        held.set()
        assert (await first, await second) == ("local", "local")
        firm = ["continue_final_message" in exchange.body for exchange in home.local.asked]
        assert firm == [False, True, False]  # the repair came before the one that waited


async def test_a_silent_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def pauses(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text(TEXT)
        await go.wait()
        await exchange.text(TEXT)
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    async with narrow(tmp_path, times={"keep_alive": 0.02, "idle": 20}) as home:
        home.local.answers(pauses)
        headers = {"authorization": f"Bearer {home.token()}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{home.url}/v1/chat/completions", json={**ASK, "stream": True}, headers=headers) as answer,
        ):
            text = b""
            while text.count(b": keep-alive\n\n") < 2:
                text += await answer.content.readany()
            go.set()
            text += await answer.content.read()
        assert text.startswith(b"data: ")  # nothing is sent before the first text: until then a status can still change
        assert text.endswith(b"data: [DONE]\n\n")
        home.local.answers(pauses)
        go.clear()
        stream = await home.client().chat.completions.create(**ASK, stream=True)
        first = await anext(aiter(stream))
        await asyncio.sleep(0.1)
        go.set()
        said = [first, *[event async for event in stream]]
        assert "".join(event.choices[0].delta.content or "" for event in said) == TEXT * 2
