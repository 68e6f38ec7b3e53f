"""What is seen of calls that fail: the class that is raised, and what an application can read in it."""

from __future__ import annotations

import asyncio

from tests.contract.calls import Call
from tests.contract.scenario import SENTENCES, TERM, TEXT, Scenario, answered, chat, failed, streamed
from tests.upstream import Exchange, refuses, says

RELEASED = SENTENCES[0].rstrip()  # a space is held back until it is known what follows
INVALID = "invalid_request_error"
SERVER = "server_error"


async def _breaks_off(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text(SENTENCES[0], "Merci de ")
    exchange.cut()


async def _tells_an_error(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text(SENTENCES[0], "Merci de ")
    await exchange.event({"error": {"message": "engine died", "type": "server_error", "code": 500}})
    await exchange.event("[DONE]")
    await exchange.end()


async def never_ends(exchange: Exchange) -> None:
    """Sentences for ever, as long as the gateway wants them."""
    await exchange.head()
    while not exchange.closed.is_set():
        await exchange.text(SENTENCES[0])
        await asyncio.sleep(0.02)


REFUSED = [
    Scenario(
        "a wrong key is an AuthenticationError",
        chat(),
        failed("AuthenticationError", 401, "invalid_api_key", INVALID),
        key=lambda home: "not-a-key",
    ),
    Scenario(
        "an old key is an AuthenticationError",
        chat(stream=True),
        failed("AuthenticationError", 401, "invalid_api_key", INVALID),
        key=lambda home: home.token(now=lambda: 0),
    ),
    Scenario(
        "an unknown model is a NotFoundError",
        chat(model="org/inconnu"),
        failed("NotFoundError", 404, "model_not_found", INVALID, param="model"),
    ),
    Scenario(
        "an unknown model cannot be retrieved",
        Call("models.retrieve", named="org/inconnu"),
        failed("NotFoundError", 404, "model_not_found", INVALID, param="model"),
    ),
    Scenario(
        "a bad value is a BadRequestError that names it",
        chat(messages=[]),
        failed("BadRequestError", 400, None, INVALID, param="messages"),
    ),
    Scenario(
        "a bad value in a stream's request is a BadRequestError that names it",
        chat(stream=True, n=1000),
        failed("BadRequestError", 400, None, INVALID, param="n"),
    ),
    Scenario(
        "the model server's refusal of a value names it",
        chat(temperature=3),
        failed("BadRequestError", 400, None, INVALID, param="temperature"),
        local=(refuses(400, {"error": {"message": "temperature is at most 2", "param": "temperature"}}),),
    ),
    Scenario(
        "a forbidden term is a BadRequestError",
        chat(messages=[{"role": "user", "content": f"Dis {TERM}"}]),
        failed("BadRequestError", 400, "content_policy_violation", INVALID, param="messages"),
    ),
]
UPSTREAM = [
    Scenario(
        "a refusal with retry-after is a RateLimitError that says when",
        chat(),
        failed("RateLimitError", 429, "rate_limit_exceeded", "requests", retry_after="7"),
        local=(refuses(429, {}, retry_after="7"),),
        key=lambda home: home.token(may_leave=False),
    ),
    Scenario(
        "no model server left is an InternalServerError that says when",
        chat(stream=True),
        failed("InternalServerError", 503, "upstream_unavailable", SERVER, retry_after="9"),
        local=(refuses(503),),
        outside=(refuses(503, {}, retry_after="9"),),
    ),
    Scenario(
        "a stream that breaks off raises an APIError after its text",
        chat(stream=True),
        streamed(RELEASED, finish=None) | failed("APIError", None, "upstream_failed", SERVER),
        local=(_breaks_off,),
    ),
    Scenario(
        "an error told in a stream raises an APIError after its text",
        chat(stream=True),
        streamed(RELEASED, finish=None) | failed("APIError", None, "upstream_failed", SERVER),
        local=(_tells_an_error,),
    ),
    Scenario(
        "a plain answer that breaks off is mended by the other model server",
        chat(),
        answered(TEXT),
        local=(_breaks_off,),
        outside=(says(*SENTENCES),),
    ),
]
