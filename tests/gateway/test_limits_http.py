"""Limits as callers meet them: real uvicorn, the official SDK, counters in this process and on Redis."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.inbox import inbox
from tests.house import MODEL, House, house
from tests.upstream import Exchange, chunk, refuses, says, usage

QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]
SENTENCE = "Voici une réponse tout à fait française. "
RESERVED = 80  # for the question, two allowances for the template, and ten tokens of an answer, at most
EN = "This is an answer that is written in plain English, sentence after sentence. "
# A prompt costs as much whatever its length is thought to be, so that a request reserves what it uses.
CHEAP = {"local": {"price": {"input": "0", "output": "5500"}, "context_length": 2048}}
PRICED = {"local": {"price": {"input": "1000", "output": "2000"}, "context_length": 2048}}


@pytest.fixture(params=["memory", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The `[state]` of a gateway; on Redis, with counters that no other test has."""
    if request.param == "memory":
        return {"directory": tmp_path}
    url = request.getfixturevalue("redis_url")
    return {"directory": tmp_path, "redis_url": url, "redis_prefix": secrets.token_hex(6)}


@asynccontextmanager
async def limited(state: dict[str, Any], limits: dict[str, Any], **more: dict[str, Any]) -> AsyncIterator[House]:
    async with house(
        state["directory"],
        **{
            "state": state,
            "limits": {"requests_per_minute": 0, **limits},
            "targets": PRICED,
            "guards": {"loops": {"mode": "annotate"}},  # the fakes say one sentence ten times
            **more,
        },
    ) as home:
        yield home


async def ask(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.chat.completions.create(model=MODEL, messages=QUESTION, **{"max_tokens": 10, **fields})


async def refusal(client: AsyncOpenAI, **fields: Any) -> openai.RateLimitError:
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client, **fields)
    return caught.value


async def test_the_headers_say_where_the_caller_stands(state: dict[str, Any]) -> None:
    async with limited(state, {"requests_per_minute": 600, "tokens_per_minute": 60_000}) as home:
        answer = await home.client().chat.completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, max_tokens=100
        )
        headers = {name[12:]: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
    assert headers.pop("reset-requests") == "100ms"
    assert headers.pop("reset-tokens").endswith(("ms", "s"))
    assert 59_700 <= int(headers.pop("remaining-tokens")) < 59_900
    assert headers == {"limit-requests": "600", "remaining-requests": "599", "limit-tokens": "60000"}


async def test_two_hundred_at_once_never_get_more_tokens_than_the_limit(state: dict[str, Any]) -> None:
    async def script(exchange: Exchange) -> None:
        await says(*[SENTENCE] * 10, prompt=15)(exchange)

    async with limited(state, {"tokens_per_day": 1000}) as home:
        home.local.answers(script)
        clients = [home.client() for _ in range(4)]
        answers = await asyncio.gather(*(ask(clients[number % 4]) for number in range(200)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        used = sum(answer.usage.total_tokens for answer in answers if not isinstance(answer, BaseException))
        assert {type(answer) for answer in refused} == {openai.RateLimitError}
        assert 0 < used <= 1000
        assert used == 25 * len(home.local.asked)
        # What was reserved and not used came back: one after another they get nearly all of it.
        while not isinstance(
            answer := (await asyncio.gather(ask(clients[0]), return_exceptions=True))[0], BaseException
        ):
            used += answer.usage.total_tokens
        assert 1000 - 25 - RESERVED < used <= 1000


async def test_the_sdk_recovers_by_itself_from_a_rate_limit(state: dict[str, Any]) -> None:
    async with limited(state, {"requests_per_minute": 60}) as home:
        patient = AsyncOpenAI(base_url=f"{home.url}/v1", api_key=home.token(), max_retries=3)
        home.clients.append(patient)
        for _ in range(61):  # the last of them has to wait a second
            assert (await ask(patient)).choices[0].finish_reason == "stop"


async def test_a_spent_budget_is_told_apart_and_is_not_tried_again(state: dict[str, Any]) -> None:
    # 7 × 0.001 + 2 × 0.002 is 0.011 a request; at most 0.2 is reserved.
    async with limited(state, {"money_per_month": "0.2"}) as home:
        patient = AsyncOpenAI(base_url=f"{home.url}/v1", api_key=home.token(), max_retries=3)
        home.clients.append(patient)
        for _ in range(19):
            error = (await asyncio.gather(ask(patient), return_exceptions=True))[0]
            if isinstance(error, BaseException):
                break
        assert isinstance(error, openai.RateLimitError)
        assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
        assert error.response.headers["x-should-retry"] == "false"
        assert error.response.request.headers["x-stainless-retry-count"] == "0"
        assert 5 <= len(home.local.asked) <= 18


async def test_a_request_that_could_never_pass_says_so_at_once(state: dict[str, Any]) -> None:
    async with limited(state, {"tokens_per_minute": 100}) as home:
        error = await refusal(home.client(), max_tokens=101)
        assert "Request too large for this user on tokens per minute" in str(error)
        assert (error.code, error.type) == ("rate_limit_exceeded", "tokens")
        assert error.response.headers["x-should-retry"] == "false"
        assert home.local.asked == []


async def test_without_max_tokens_the_remaining_context_is_reserved(state: dict[str, Any]) -> None:
    async with limited(state, {"tokens_per_minute": 2000}) as home:
        error = await refusal(home.client(), max_tokens=openai.NOT_GIVEN)
        assert "requested 2048" in str(error)
        await ask(home.client(), max_tokens=50)


async def test_requests_that_nobody_can_read_are_requests(state: dict[str, Any]) -> None:
    async with limited(state, {"requests_per_minute": 2}) as home:
        client = home.client()
        for _ in range(2):
            with pytest.raises(openai.BadRequestError) as caught:
                await ask(client, max_tokens=-1)
            assert "x-ratelimit-remaining-requests" in caught.value.response.headers
        assert (await refusal(client, max_tokens=-1)).code == "rate_limit_exceeded"
        assert (await refusal(client)).response.headers["retry-after"] in {"29", "30"}


async def leaves(home: House, **fields: Any) -> None:
    """A caller who goes away as soon as the model has been asked."""
    task = asyncio.create_task(ask(home.client(), **fields))
    while not home.local.asked:  # noqa: ASYNC110  # a server of its own
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(home.local.asked[-1].closed.wait(), 5)


async def served(home: House, **fields: Any) -> None:
    answer = await ask(home.client(may_leave=False), **fields)
    if fields.get("stream"):
        async for _ in answer:
            pass


async def fails(home: House, **fields: Any) -> None:
    with pytest.raises(openai.APIError):
        await served(home, **fields)


async def silent(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event(chunk({"role": "assistant", "content": ""}))
    await asyncio.sleep(30)


async def cut(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text(SENTENCE, SENTENCE, "Et ")
    exchange.cut()


Way = Callable[..., Awaitable[None]]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("script", "way"),
    [
        pytest.param(says(SENTENCE), served, id="completed"),
        pytest.param(says(EN, EN), served, id="refused for its language"),
        pytest.param(refuses(500), fails, id="no model answers"),
        pytest.param(refuses(400, {"error": {"message": "no"}}), fails, id="the request is at fault"),
        pytest.param(cut, fails, id="cut"),
        pytest.param(silent, leaves, id="the caller leaves"),
    ],
)
async def test_every_way_out_gives_the_place_and_the_reservation_back(
    state: dict[str, Any], script: Any, way: Way, stream: bool
) -> None:
    limits = {"concurrent": 1, "tokens_per_day": 400}  # one reservation fits, two do not
    async with limited(state, limits, times={"idle": 20, "first_content": 20}) as home:
        home.local.answers(script)
        await way(home, max_tokens=150, stream=stream)
        home.local.answers(says(SENTENCE))
        async with asyncio.timeout(5):
            while True:  # the caller who left is not told when it is settled
                try:
                    await ask(home.client(), max_tokens=150)
                except openai.RateLimitError:
                    assert way is leaves
                    await asyncio.sleep(0.01)
                else:
                    break


async def test_requests_at_once_are_counted(state: dict[str, Any]) -> None:
    going, go = asyncio.Event(), asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        going.set()
        await go.wait()
        await says(SENTENCE)(exchange)

    async with limited(state, {"tenant": {"concurrent": 1}}, times={"first_content": 20}) as home:
        home.local.answers(waits)
        first = asyncio.create_task(ask(home.client()))
        await going.wait()
        error = await refusal(home.client(subject="bob"))
        assert "your organization on requests at once: limit 1, used 1, requested 1" in str(error)
        assert error.response.headers["retry-after"] == "1"
        go.set()
        await first
        await ask(home.client(subject="bob"))


async def test_what_a_regeneration_used_is_nobodys_quota(state: dict[str, Any]) -> None:
    async with limited(state, {"tokens_per_day": 5000}) as home:
        home.local.answers(says(EN, EN, EN), says(SENTENCE, SENTENCE))
        await ask(home.client())
        answer = await home.client().chat.completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, max_tokens=10
        )
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        reserved = 5000 - 9 - left  # 7 of the prompt, 2 of the answer that was delivered
        first = await home.client(subject="bob").chat.completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, max_tokens=10
        )
        assert reserved == 5000 - int(first.headers["x-ratelimit-remaining-tokens"])


async def test_a_restart_forgets_no_budget(state: dict[str, Any]) -> None:
    def many(exchange: Exchange) -> Awaitable[None]:
        async def script() -> None:
            await exchange.head()
            await exchange.text(SENTENCE)
            await exchange.event(chunk({}, finish="stop"))
            await exchange.event(usage(600, 300))
            await exchange.event("[DONE]")
            await exchange.end()

        return script()

    async with limited(state, {"tokens_per_day": 1000}) as home:
        home.local.answers(many)
        await ask(home.client())
    if "redis_prefix" in state:  # as if Redis had lost everything
        state["redis_prefix"] = secrets.token_hex(6)
    async with limited(state, {"tokens_per_day": 1000}) as home:
        assert "limit 1000, used 900" in str(await refusal(home.client(), max_tokens=60))
        await ask(home.client(subject="bob"), max_tokens=60)


async def test_embeddings_have_limits_too(state: dict[str, Any]) -> None:
    async with limited(state, {"tokens_per_day": 1000}, targets={**PRICED, "local": {"tasks": ["embeddings"]}}) as home:
        with pytest.raises(openai.RateLimitError, match="Request too large"):
            await home.client().embeddings.create(model=MODEL, input="long " * 500)


async def test_whoever_is_configured_is_told_when_a_budget_nears_its_end(state: dict[str, Any]) -> None:
    async with inbox() as receiver:
        alerts = {"urls": [receiver.url]}
        # 0.011 a request; 80 percent of 0.04 are crossed by the third, and what is left is too little for the fourth.
        limits = {"tenants": {"acme": {"money_per_month": "0.04"}}, "requests_per_minute": 0}
        async with limited(state, limits, alerts=alerts, targets=CHEAP) as home:
            for _ in range(3):
                await ask(home.client(), max_tokens=2)
            await receiver.until(taken=1)
            assert (await refusal(home.client(), max_tokens=2)).code == "insufficient_quota"
            await receiver.until(taken=2)
            await refusal(home.client(), max_tokens=2)
    told = [(taken["data"]["scope"], taken["data"]["name"], taken["data"]["percent"]) for taken in receiver.taken]
    assert told == [("tenant", "acme", 80), ("tenant", "acme", 100)]
    first = receiver.taken[0]["data"]
    assert (first["used"], first["limit"], first["currency"], first["measure"]) == (
        "0.033",
        "0.04",
        "EUR",
        "money_per_month",
    )


async def test_what_was_reserved_is_in_the_ledger_before_a_model_is_asked(state: dict[str, Any]) -> None:
    before: list[Any] = []

    async def looks(exchange: Exchange) -> None:
        before.extend(await home.ledger(exchange.headers["x-request-id"]))
        await says(SENTENCE)(exchange)

    async with limited(state, {"tokens_per_day": 5000, "money_per_month": "10"}, times={"first_content": 20}) as home:
        home.local.answers(looks)
        raw = await home.client().chat.completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, max_tokens=50
        )
        (reserved,) = before
        left = 5000 - int(raw.headers["x-ratelimit-remaining-tokens"])
    assert (reserved["kind"], reserved["state"], reserved["usage_source"]) == ("reserve", "queued", "reserved")
    assert reserved["completion_tokens"] == 50
    assert reserved["prompt_tokens"] + 50 == left
    assert reserved["cost"] == Decimal(reserved["prompt_tokens"] * 1000 + 50 * 2000) / 10**6
