"""What an application developer sees through the official SDK: streamed and plain, nothing of OpenAI's format lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.protocol import parse
from tests.house import MODEL, House, house
from tests.upstream import Exchange, chunk, refuses, says, usage

QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


async def test_a_plain_answer_has_text_finish_usage_and_our_model_name(plain_home: House) -> None:
    plain_home.local.answers(says("Bonjour ", "à vous."))
    answer = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.choices[0].message.content == "Bonjour à vous."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 2, 9)


async def test_a_stream_gives_usage_only_when_asked_and_last(plain_home: House) -> None:
    client = plain_home.client()
    silent = [
        chunk async for chunk in await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    ]
    assert all(chunk.usage is None and chunk.choices for chunk in silent)
    asked = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in asked]
    assert [chunk for chunk in chunks if chunk.usage] == chunks[-1:]
    assert chunks[-1].choices == []


async def test_the_role_comes_once_and_with_the_first_text(plain_home: House) -> None:
    stream = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    roles = [chunk.choices[0].delta.role async for chunk in stream]
    assert roles[0] == "assistant"
    assert set(roles[1:]) == {None}


async def test_the_first_text_leaves_before_the_answer_is_whole(plain_home: House) -> None:
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text("Premier mot. ")
        await go_on.wait()
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    plain_home.local.answers(waits)
    stream = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    first = await anext(aiter(stream))
    assert first.choices[0].delta.content == "Premier mot. "
    go_on.set()
    assert [chunk.choices[0].finish_reason async for chunk in stream][-1] == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_several_choices_stay_apart(plain_home: House, stream: bool) -> None:
    async def two(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text("Un ", index=0)
        await exchange.text("Deux ", index=1)
        await exchange.text("premier.", index=0)
        await exchange.text("second.", index=1)
        for index in (1, 0):
            await exchange.event(chunk({}, index=index, finish="stop"))
        await exchange.event(usage(3, 4))
        await exchange.event("[DONE]")
        await exchange.end()

    plain_home.local.answers(two)
    texts = {0: "", 1: ""}
    created: Any = await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, n=2, stream=stream)
    if stream:
        async for part in created:
            texts[part.choices[0].index] += part.choices[0].delta.content or ""
    else:
        texts = {choice.index: choice.message.content for choice in created.choices}
    assert texts == {0: "Un premier.", 1: "Deux second."}


CALL = [
    {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "statut", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"avis"'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ": 12}"}}]},
]


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_keep_their_arguments(home: House, stream: bool) -> None:
    async def calls(exchange: Exchange) -> None:
        await exchange.head()
        for delta in CALL:
            await exchange.event(chunk(delta))
        await exchange.event(chunk({}, finish="tool_calls"))
        await exchange.event(usage(5, 3))
        await exchange.event("[DONE]")
        await exchange.end()

    home.local.answers(calls)
    tools: Any = [{"type": "function", "function": {"name": "statut", "parameters": {"type": "object"}}}]
    created: Any = await home.client().chat.completions.create(
        model=MODEL, messages=QUESTION, tools=tools, stream=stream
    )
    assert home.local.asked[0].body["tools"] == tools
    if stream:
        deltas = [part.choices[0].delta async for part in created]
        names = [call.function.name for delta in deltas for call in delta.tool_calls or [] if call.function.name]
        arguments = "".join(call.function.arguments or "" for delta in deltas for call in delta.tool_calls or [])
        assert names == ["statut"]
    else:
        message = created.choices[0].message
        assert message.content is None
        assert message.tool_calls[0].id == "call_1"
        arguments = message.tool_calls[0].function.arguments
        assert created.choices[0].finish_reason == "tool_calls"
    assert json.loads(arguments) == {"avis": 12}


async def test_log_probabilities_survive_the_gate(home: House) -> None:
    words = ["Vous ", "pouvez ", "suivre ", "votre ", "avis ", "en ", "ligne."]

    async def measured(exchange: Exchange) -> None:
        await exchange.head()
        for word in words:
            content = [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []}]
            await exchange.event(chunk({"content": word}, logprobs={"content": content}))
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    home.local.answers(measured)
    answer = await home.client().chat.completions.create(model=MODEL, messages=QUESTION, logprobs=True)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert [entry.token for entry in logprobs.content or []] == words


async def test_a_model_that_calls_no_tools_says_so_without_the_operator_s_words(plain_home: House) -> None:
    said = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    plain_home.local.answers(refuses(400, {"error": {"message": said, "code": 400}}))
    tools: Any = [{"type": "function", "function": {"name": "statut", "parameters": {"type": "object"}}}]
    with pytest.raises(openai.BadRequestError, match="does not call tools") as refused:
        await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, tools=tools)
    assert (refused.value.param, "--" in str(refused.value)) == ("tools", False)


async def test_unknown_fields_pass_and_ours_are_set(plain_home: House) -> None:
    await plain_home.client().chat.completions.create(
        model=MODEL, messages=QUESTION, seed=4, max_completion_tokens=12, stop=["FIN"], extra_body={"min_p": 0.1}
    )
    sent = plain_home.local.asked[0].body
    assert sent["model"] == "falcon"
    assert (sent["seed"], sent["min_p"], sent["stop"], sent["max_tokens"]) == (4, 0.1, ["FIN"], 12)
    assert "max_completion_tokens" not in sent
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


async def test_the_outside_model_gets_the_bound_under_the_name_it_knows(plain_home: House) -> None:
    plain_home.local.answers(refuses(503))
    await plain_home.client().chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12)
    sent = plain_home.outside.asked[0].body
    assert sent["max_completion_tokens"] == 12
    assert "max_tokens" not in sent


async def test_usage_is_counted_here_when_the_model_server_says_nothing(plain_home: House) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text("Un ", "deux ", "trois.")
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    plain_home.local.answers(silent)
    raw = await plain_home.client().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION)
    assert (counts := raw.parse().usage) is not None
    assert counts.completion_tokens == 3
    rows = await plain_home.ledger(raw.headers["x-request-id"])
    assert (rows[0]["usage_source"], rows[0]["completion_tokens"]) == ("local", 3)


async def test_models_are_listed_and_found_with_their_slashes(home: House) -> None:
    client = home.client()
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).owned_by == "passerelle"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.models.retrieve("org/inconnu")
    assert missing.value.code == "model_not_found"


BAD: list[tuple[bytes, int, str | None]] = [
    (b"", 400, None),
    (b"[]", 400, None),
    (b"[" * 20_000, 400, None),
    (b'{"model": "caf\xe9"}', 400, None),
    (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud83d"}]}', 400, None),
    (b'{"model": "m"}', 400, None),
    (b'{"model": "m", "messages": []}', 400, "messages"),
    (b'{"model": "m", "messages": "bonjour"}', 400, "messages"),
    (b'{"model": "m", "messages": [{"role": "robot", "content": "x"}], "stream": true}', 400, "messages[0].role"),
    (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 0}', 400, "n"),
    (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 1000}', 400, "n"),
    (b'{"model": "inconnu", "messages": [{"role": "user", "content": "x"}]}', 404, "model"),
]


@pytest.mark.parametrize(("body", "status", "param"), BAD)
async def test_bad_input_is_refused_in_openai_s_shape_and_nothing_is_asked(
    home: House, body: bytes, status: int, param: str | None
) -> None:
    headers = {"authorization": f"Bearer {home.token()}", "content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{home.url}/v1/chat/completions", data=body, headers=headers) as answer,
    ):
        error = (await answer.json())["error"]
        request_id = answer.headers["x-request-id"]
    assert answer.status == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert home.local.asked == []
    rows = await home.ledger(request_id)
    assert [(row["kind"], row["state"], row["status"]) for row in rows] == [("release", "refused", status)]


@pytest.mark.parametrize("known_length", [True, False])
async def test_a_body_over_the_limit_is_413(tmp_path: Path, known_length: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 500

    async with house(tmp_path, server={"body_limit_bytes": 1000}) as home, aiohttp.ClientSession() as session:
        headers = {"authorization": f"Bearer {home.token()}"}
        data = b" " * 1001 if known_length else parts()
        async with session.post(f"{home.url}/v1/chat/completions", data=data, headers=headers) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/chat/completions", 405), ("GET", "/v1/nowhere", 404)]
)
async def test_the_framework_s_own_errors_have_openai_s_shape(home: House, method: str, path: str, status: int) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, home.url + path) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, set(error)) == (status, {"message", "type", "param", "code"})


async def test_a_forbidden_term_neither_comes_in_nor_goes_out(plain_home: House) -> None:
    client = plain_home.client()
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Dis ZORG\u200bLUB"}])
    assert refused.value.code == "content_policy_violation"
    assert plain_home.local.asked == []
    plain_home.local.answers(says("Voici ", "le zor", "glub ", "promis."))
    stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    chunks = [part async for part in stream]
    assert "".join(part.choices[0].delta.content or "" for part in chunks) == "Voici le "
    assert chunks[-1].choices[0].finish_reason == "content_filter"


async def test_a_request_id_goes_in_out_upstream_and_into_the_ledger(home: House) -> None:
    raw = await home.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, extra_headers={"x-request-id": "mine-42"}
    )
    assert raw.headers["x-request-id"] == "mine-42"
    assert home.local.asked[0].headers["x-request-id"] == "mine-42"
    assert (await home.ledger("mine-42"))[0]["tenant"] == "acme"


def test_the_sdk_s_own_bodies_are_understood() -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": [{"type": "text", "text": "Salut"}]}]})
    assert list(parse(body.encode(), max_choices=1).texts()) == ["Salut"]
