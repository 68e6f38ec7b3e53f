"""What is seen of chat answers that succeed, of models, and of the gateway's own care for a stream."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.contract.calls import Call
from tests.contract.scenario import SENTENCES, TEXT, Scenario, answered, chat, streamed
from tests.house import MODEL
from tests.upstream import Exchange, chunk, refuses, says, usage

ACCENTS = "Voilà l’été à Nîmes : ça coûte 3 €, cœur « naïf » 😀👩‍👩‍👧 e\u0301. "
TOOLS = [{"type": "function", "function": {"name": "statut", "parameters": {"type": "object"}}}]
TOOL_CALLS = [{"id": "call_1", "name": "statut", "arguments": '{"avis": 12}'}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "ville", "schema": {"type": "object"}, "strict": True},
}
WORDS = ("Vous ", "pouvez ", "suivre ", "votre ", "avis ", "en ", "ligne.")
OF_MODEL = {"id": MODEL, "object": "model", "created": 0, "owned_by": "passerelle"}


async def _two_choices(exchange: Exchange) -> None:
    await exchange.head()
    for index in (0, 1):
        await exchange.text(SENTENCES[index], index=index)
    for index in (1, 0):
        await exchange.event(chunk({}, index=index, finish="stop"))
    await exchange.event(usage(7, 2))
    await exchange.event("[DONE]")
    await exchange.end()


async def _calls_a_tool(exchange: Exchange) -> None:
    named = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "statut", "arguments": ""}}
    await exchange.head()
    await exchange.event(chunk({"role": "assistant", "content": None, "tool_calls": [named]}))
    for piece in ('{"avis"', ": 12}"):
        await exchange.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    await exchange.event(chunk({}, finish="tool_calls"))
    await exchange.event(usage(7, 2))
    await exchange.event("[DONE]")
    await exchange.end()


async def _measures_its_words(exchange: Exchange) -> None:
    await exchange.head()
    for word in WORDS:
        content = [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []}]
        await exchange.event(chunk({"content": word}, logprobs={"content": content}))
    await exchange.event(chunk({}, finish="stop"))
    await exchange.event(usage(7, 2))
    await exchange.event("[DONE]")
    await exchange.end()


async def _comments(exchange: Exchange) -> None:
    """Comments of the model server, and a silence in which the gateway has to write one itself."""
    await exchange.head()
    for sentence in SENTENCES:
        await exchange.send(b": keep-alive\n\n")
        await exchange.text(sentence)
        await asyncio.sleep(0.3)  # three times what the gateway is told to be silent for at most
    await exchange.event(chunk({}, finish="stop"))
    await exchange.event(usage(7, 2))
    await exchange.event("[DONE]")
    await exchange.end()


def _tool_call(**more: Any) -> dict[str, Any]:
    return {"choices": [{"finish": "tool_calls", "tools": TOOL_CALLS, **more}]}


PLAIN = [
    Scenario("a plain answer has text, finish and usage", chat(), answered(TEXT)),
    Scenario("accents and emoji come whole", chat(), answered(ACCENTS + TEXT), local=(says(ACCENTS, TEXT),)),
    Scenario("two choices stay apart", chat(n=2), answered(*SENTENCES), local=(_two_choices,), asked={"n": 2}),
    Scenario(
        "a tool is called with its arguments",
        chat(tools=TOOLS),
        {**answered(), **_tool_call(text=None)},
        local=(_calls_a_tool,),
        asked={"tools": TOOLS},
    ),
    Scenario(
        "seed, response_format and logprobs reach the model server",
        chat(seed=7, response_format=SCHEMA, logprobs=True, top_logprobs=2),
        {**answered(), "choices": [{"text": "".join(WORDS), "finish": "stop", "tokens": list(WORDS)}]},
        local=(_measures_its_words,),
        asked={"seed": 7, "response_format": SCHEMA, "logprobs": True, "top_logprobs": 2},
    ),
    Scenario(
        "the bound on the answer is kept", chat(), answered(TEXT, finish="length"), (says(*SENTENCES, finish="length"),)
    ),
    Scenario(
        "one retry of the SDK mends a refusal with retry-after",
        chat(max_retries=1),
        answered(TEXT),
        local=(refuses(429, {}, retry_after="1"), says(*SENTENCES)),
        key=lambda home: home.token(may_leave=False),
    ),
]
STREAMS = [
    Scenario("a stream joins to the answer", chat(stream=True), streamed(TEXT)),
    Scenario(
        "usage comes last in a chunk without choices",
        chat(stream=True, stream_options={"include_usage": True}),
        streamed(TEXT, usage=[7, 2, 9]),
    ),
    Scenario(
        "streamed accents and emoji come whole", chat(stream=True), streamed(ACCENTS + TEXT), (says(ACCENTS, TEXT),)
    ),
    Scenario("two streamed choices stay apart", chat(stream=True, n=2), streamed(*SENTENCES), (_two_choices,)),
    Scenario(
        "a streamed tool call joins to its arguments",
        chat(stream=True, tools=TOOLS),
        {**streamed(), **_tool_call(text="")},
        local=(_calls_a_tool,),
    ),
    Scenario("comments in a stream are passed over", chat(stream=True), streamed(TEXT), (_comments,)),
    Scenario(
        "the SDK's own accumulator makes the answer",
        Call("chat.completions.stream", chat(stream_options={"include_usage": True}).body),
        answered(TEXT),
    ),
    Scenario(
        "the SDK's own accumulator makes the tool call",
        Call("chat.completions.stream", chat(tools=TOOLS, stream_options={"include_usage": True}).body),
        {**answered(), **_tool_call(text=None)},
        local=(_calls_a_tool,),
    ),
]
MODELS = [
    Scenario("models are listed", Call("models.list"), {"items": [OF_MODEL]}),
    Scenario("a model is found by a name with a slash", Call("models.retrieve", named=MODEL), OF_MODEL),
]
