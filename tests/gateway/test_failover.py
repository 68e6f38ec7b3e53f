"""Upstream failures: before the first text they are mended or told as a status; after it they travel in the stream."""

import asyncio
import time
from typing import Any

import openai
import pytest

from tests.house import LOCAL_KEY, MODEL, OUTSIDE_KEY, House
from tests.upstream import Exchange, Script, chunk, refuses, says

QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


async def hangs_up(exchange: Exchange) -> None:
    exchange.cut()


async def silent(exchange: Exchange) -> None:
    await exchange.closed.wait()


async def stalls(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("Un début ")
    await exchange.closed.wait()


async def breaks_off(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("Un début ", "de réponse ")
    exchange.cut()


async def ends_too_soon(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("Un début ", "de réponse ")
    await exchange.end()


async def error_at_once(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event({"error": {"message": "engine died", "type": "server_error", "code": 500}})
    await exchange.event("[DONE]")
    await exchange.end()


async def error_in_the_middle(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("Un début ")
    await exchange.event({"error": {"message": "engine died", "type": "server_error", "code": 500}})
    await exchange.event("[DONE]")
    await exchange.end()


async def garbage(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.send(b"data: {not json\n\n")
    await exchange.end()


def shaped(choices: object) -> Script:
    """An event whose choices are not those of an answer."""

    async def wrong_shape(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event({"choices": choices})
        await exchange.end()

    return wrong_shape


WRONG_SHAPES = [
    5,
    "text",
    ["x"],
    [{"index": "0", "delta": {"content": "a"}}],
    [{"index": 0, "delta": "x"}],
    [{"index": 0, "delta": {"content": 3}}],
    [{"index": 0, "delta": {"content": "a"}, "logprobs": [1]}],
    [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": 1}}],
    [{"index": 0, "delta": {"tool_calls": ["x"]}}],
    [{"index": 0, "delta": {"tool_calls": {"index": 0}}}],
    [{"index": 0, "delta": {"tool_calls": [{"index": "0"}]}}],
    [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": 3}}]}}],
    [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": "x"}]}}],
]


BEFORE: list[Script] = [
    refuses(503),
    refuses(500, {"error": "x"}),
    refuses(502, "<html>nginx</html>"),
    refuses(401, {"error": {"message": "bad key"}}),
    refuses(404, {"error": {"message": "no such model"}}),
    refuses(400, {"error": {"message": "default chat template is no longer allowed"}}),
    refuses(429, {}, retry_after="7"),
    refuses(200, "<html>hello</html>"),
    hangs_up,
    silent,
    error_at_once,
    garbage,
    *map(shaped, WRONG_SHAPES),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", BEFORE)
async def test_a_failure_before_the_first_text_is_mended_by_the_next_target(
    plain_home: House, failure: Script, stream: bool
) -> None:
    plain_home.local.answers(failure)
    plain_home.outside.answers(says("Réponse de secours."))
    raw = await plain_home.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, stream=stream
    )
    body = (await raw.http_response.aread()).decode()
    assert "Réponse de secours." in body
    assert raw.headers["x-passerelle-target"] == "outside"
    assert plain_home.outside.asked[0].headers["authorization"] == f"Bearer {OUTSIDE_KEY}"
    assert LOCAL_KEY not in body
    rows = await plain_home.ledger(raw.headers["x-request-id"])
    assert [(row["kind"], row["target"]) for row in rows] == [("fallback", "local"), ("settle", "outside")]


STATUS: list[tuple[Script, int, str, str | None]] = [
    (refuses(503, {}, retry_after="9"), 503, "upstream_unavailable", "9"),
    (refuses(500, "<html>nginx</html>"), 502, "upstream_failed", None),
    (refuses(401, {"error": {"message": "bad key"}}), 502, "upstream_failed", None),
    (refuses(429, {}, retry_after="7"), 429, "rate_limit_exceeded", "7"),
    (silent, 504, "upstream_timeout", None),
    (breaks_off, 502, "upstream_failed", None),
]


@pytest.mark.parametrize(("failure", "status", "code", "retry_after"), STATUS)
async def test_when_no_target_answers_the_status_says_what_happened_and_nothing_of_the_inside(
    plain_home: House, failure: Script, status: int, code: str, retry_after: str | None
) -> None:
    plain_home.local.answers(failure)
    plain_home.outside.answers(failure)
    with pytest.raises(openai.APIStatusError) as failed:
        await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION)
    assert (failed.value.status_code, failed.value.code) == (status, code)
    assert failed.value.response.headers.get("retry-after") == retry_after
    assert "nginx" not in failed.value.response.text
    assert "bad key" not in failed.value.response.text
    rows = await plain_home.ledger(failed.value.response.headers["x-request-id"])
    assert rows[-1]["kind"] == "release"
    assert rows[-1]["state"] == "failed"


@pytest.mark.parametrize("failure", [breaks_off, ends_too_soon, error_in_the_middle, stalls])
async def test_a_failure_after_the_first_text_is_an_error_event_and_nobody_else_is_asked(
    plain_home: House, failure: Script
) -> None:
    plain_home.local.answers(failure)
    raw = await plain_home.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, stream=True
    )
    text, finishes = "", []
    stream = aiter(raw.parse())
    failed: openai.APIError | None = None
    while failed is None:
        try:
            part = await anext(stream)
        except openai.APIError as error:
            failed = error
        else:
            text += part.choices[0].delta.content or ""
            finishes.append(part.choices[0].finish_reason)
    assert "Un début de réponse ".startswith(text)
    assert text
    assert set(finishes) == {None}
    assert failed.body is not None
    assert plain_home.outside.asked == []
    assert len(plain_home.local.asked) == 1
    rows = await plain_home.ledger(raw.headers["x-request-id"])
    assert [(row["kind"], row["state"]) for row in rows] == [("settle", "truncated")]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": {"message": "temperature must be at most 2", "param": "temperature", "code": 400}}, None),
        (400, {"message": "This model's maximum context length is 2048 tokens"}, "context_length_exceeded"),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, "context_length_exceeded"),
    ],
)
async def test_a_refusal_of_the_caller_s_making_comes_straight_back(
    plain_home: House, status: int, body: dict[str, Any], code: str | None
) -> None:
    plain_home.local.answers(refuses(status, body))
    with pytest.raises(openai.BadRequestError) as refused:
        await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    assert refused.value.code == code
    rows = await plain_home.ledger(refused.value.response.headers["x-request-id"])
    assert [(row["kind"], row["prompt_tokens"]) for row in rows] == [("fallback", 0), ("release", 0)]
    assert len(plain_home.local.asked) == 1
    assert plain_home.outside.asked == []


async def test_a_kept_connection_that_went_away_is_not_a_failure(plain_home: House) -> None:
    async def answers_then_drops(exchange: Exchange) -> None:
        await says("Bonjour.")(exchange)
        exchange.cut()

    plain_home.local.answers(answers_then_drops)
    for _ in range(3):
        answer = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION)
        assert answer.choices[0].message.content == "Bonjour."
    assert plain_home.outside.asked == []


async def test_a_stall_ends_soon_after_the_idle_limit(plain_home: House) -> None:
    plain_home.local.answers(stalls)
    started = time.monotonic()
    stream = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError):
        _ = [part async for part in stream]
    assert 0.9 < time.monotonic() - started < 10  # the limit is 1 s; without one this would never end
    await plain_home.local.asked[0].closed.wait()


async def test_slow_but_live_streams_are_not_cut(plain_home: House) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(4):
            await exchange.text("mot ")
            await asyncio.sleep(0.6)  # under the idle limit of 1 s, over it in sum
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    plain_home.local.answers(slow)
    answer = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.choices[0].message.content == "mot mot mot mot "
