"""`/v1/embeddings`: passed to a pool that makes vectors, mended only by one of the same model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.house import MODEL, House, house
from tests.upstream import Exchange, Script, refuses

TEXTS = ["Un avis sur la livraison.", "Le colis est arrivé en retard."]


def vectors(count: int = len(TEXTS), **more: Any) -> Script:
    data = [{"object": "embedding", "index": index, "embedding": [0.5, index]} for index in range(count)]
    usage = {"prompt_tokens": 14, "total_tokens": 14}
    return refuses(200, {"object": "list", "data": data, "model": "e5", "usage": usage, **more})


@asynccontextmanager
async def embedding(folder: Path, outside: str = "e5") -> AsyncIterator[House]:
    """A gateway whose two targets make vectors, the outside one of the model named."""
    targets = {
        "local": {"tasks": ["embeddings"], "model": "e5"},
        "outside": {"tasks": ["embeddings"], "model": outside},
    }
    async with house(folder, targets=targets) as running:
        running.local.answers(vectors())
        yield running


async def test_texts_become_vectors_under_our_model_s_name(tmp_path: Path) -> None:
    async with embedding(tmp_path) as home:
        raw = await home.client().embeddings.with_raw_response.create(
            model=MODEL, input=TEXTS, encoding_format="float", dimensions=2
        )
        answer = raw.parse()
        assert [vector.embedding for vector in answer.data] == [[0.5, 0], [0.5, 1]]
        assert (answer.model, answer.usage.prompt_tokens) == (MODEL, 14)
        sent = home.local.asked[0].body
        assert sent == {"model": "e5", "input": TEXTS, "encoding_format": "float", "dimensions": 2}
        (row,) = await home.ledger(raw.headers["x-request-id"])
        assert (row["kind"], row["state"], row["prompt_tokens"], row["completion_tokens"]) == (
            "settle",
            "completed",
            14,
            0,
        )


@pytest.mark.parametrize("broken", [refuses(500), vectors(1), refuses(200, {"data": "none"}), refuses(200, "<html>")])
async def test_a_failure_is_mended_by_another_target_of_the_same_model(tmp_path: Path, broken: Script) -> None:
    async with embedding(tmp_path) as home:
        home.local.answers(broken)
        home.outside.answers(vectors())
        answer = await home.client().embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
        assert len(answer.data) == 2


async def test_another_model_s_vectors_are_no_replacement(tmp_path: Path) -> None:
    async with embedding(tmp_path, outside="ada") as home:
        home.local.answers(refuses(500))
        with pytest.raises(openai.InternalServerError) as failed:
            await home.client().embeddings.create(model=MODEL, input=TEXTS)
        assert failed.value.status_code == 502
        assert home.outside.asked == []


async def test_a_text_that_does_not_fit_is_the_caller_s_to_shorten(tmp_path: Path) -> None:
    message = "This model's maximum context length is 512 tokens. However, your request has 700 input tokens."
    async with embedding(tmp_path) as home:
        home.local.answers(refuses(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}}))
        with pytest.raises(openai.BadRequestError) as refused:
            await home.client().embeddings.create(model=MODEL, input=TEXTS)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
        assert "512" in str(refused.value)
        assert len(home.local.asked) == 1
        assert home.outside.asked == []


@pytest.mark.parametrize("given", [[], "", [1, 2], [[1, 2]], [TEXTS[0], ""], {}])
async def test_what_is_no_text_is_refused_and_nothing_is_asked(tmp_path: Path, given: Any) -> None:
    async with embedding(tmp_path) as home:
        with pytest.raises(openai.BadRequestError) as refused:
            await home.client().embeddings.create(model=MODEL, input=given)
        assert refused.value.param == "input"
        assert home.local.asked == []


async def test_a_model_without_vectors_says_so(home: House) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await home.client().embeddings.create(model=MODEL, input=TEXTS)
    assert (refused.value.code, refused.value.param) == ("model_not_supported", "model")


async def test_a_caller_that_leaves_takes_the_work_with_it(tmp_path: Path) -> None:
    async def never_answers(exchange: Exchange) -> None:
        await exchange.closed.wait()

    async with embedding(tmp_path) as home, aiohttp.ClientSession() as session:
        home.local.answers(never_answers)
        headers = {"authorization": f"Bearer {home.token()}"}
        body = {"model": MODEL, "input": TEXTS}
        asking = asyncio.ensure_future(
            session.post(f"{home.url}/v1/embeddings", json=body, headers=headers).__aenter__()
        )
        while not home.local.asked:  # noqa: ASYNC110  # the condition is the fake's, seen from outside
            await asyncio.sleep(0.01)
        asking.cancel()
        async with asyncio.timeout(1):
            await home.local.asked[0].closed.wait()
        assert home.outside.asked == []
