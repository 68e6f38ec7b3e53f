"""What is seen of completions without a chat, and of embeddings."""

from __future__ import annotations

import base64
import struct
from typing import Any

from tests.contract.calls import Call
from tests.contract.scenario import SENTENCES, TEXT, Scenario, answered, failed, streamed
from tests.house import MODEL
from tests.upstream import Exchange, Script, refuses, usage

VECTORS = [[0.5, -0.25, 1.0], [0.0, 2.0, -8.0]]  # all of them exact in 32 bits
COUNTED = {"prompt_tokens": 5, "total_tokens": 5}


def goes_on(*texts: str, finish: str = "stop") -> Script:
    """A completion as vLLM streams it, with usage."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.event(_piece(text, None))
        await exchange.event(_piece("", finish))
        await exchange.event({**usage(7, len(texts)), "object": "text_completion"})
        await exchange.event("[DONE]")
        await exchange.end()

    return script


def _piece(text: str, finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return {"id": "up-1", "object": "text_completion", "created": 1, "model": "up", "choices": [choice]}


async def _breaks_off(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event(_piece(SENTENCES[0], None))
    await exchange.event(_piece("Merci de ", None))
    exchange.cut()


async def makes_vectors(exchange: Exchange) -> None:
    """Vectors in the encoding that is asked for, as vLLM does."""
    encoded = exchange.body.get("encoding_format") == "base64"
    shown = [base64.b64encode(struct.pack("<3f", *one)).decode() if encoded else one for one in VECTORS]
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)]
    await refuses(200, {"object": "list", "model": "up", "data": data, "usage": COUNTED})(exchange)


def completion(*, stream: bool = False, **body: Any) -> Call:
    """A completion; `body` adds to a plain prompt or changes it."""
    whole = {"model": MODEL, "prompt": "Pour suivre un avis,", **({"stream": True} if stream else {}), **body}
    return Call("completions.create", whole)


def embedding(**body: Any) -> Call:
    """Two texts; `body` adds to the request or changes it."""
    return Call("embeddings.create", {"model": MODEL, "input": ["Un avis.", "Un autre."], **body})


def _vectors() -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(VECTORS)]
    return {"object": "list", "model": MODEL, "data": data, "usage": COUNTED}


COMPLETIONS = [
    Scenario(
        "a completion has text, finish and usage",
        completion(max_tokens=12, seed=7),
        answered(TEXT, kind="text_completion"),
        local=(goes_on(*SENTENCES),),
        asked={"prompt": "Pour suivre un avis,", "max_tokens": 12, "seed": 7},
    ),
    Scenario(
        "a streamed completion joins to the text, usage last",
        completion(stream=True, stream_options={"include_usage": True}),
        streamed(TEXT, kind="text_completion", usage=[7, 2, 9]),
        local=(goes_on(*SENTENCES),),
    ),
    Scenario(
        "a completion that breaks off raises an APIError after its text",
        completion(stream=True),
        streamed(SENTENCES[0].rstrip(), kind="text_completion", finish=None)
        | failed("APIError", None, "upstream_failed", "server_error"),
        local=(_breaks_off,),
    ),
    Scenario(
        "a prompt of tokens is a BadRequestError that names it",
        completion(prompt=[1, 2, 3]),
        failed("BadRequestError", 400, None, "invalid_request_error", param="prompt"),
    ),
]
EMBEDDINGS = [
    Scenario("embeddings are numbers, though the SDKs ask for base64", embedding(), _vectors(), local=(makes_vectors,)),
    Scenario(
        "embeddings come as numbers when asked for",
        embedding(encoding_format="float"),
        _vectors(),
        local=(makes_vectors,),
        asked={"encoding_format": "float"},
    ),
]
