"""The context length decides: what does not fit one target goes to a longer one, if the caller's text may leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.house import MODEL, House, house
from tests.upstream import Exchange, refuses, says

LONG: list[Any] = [{"role": "user", "content": "Voici mon avis, en détail. " * 800}]
SHORT: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]
SAYS_VLLM = {
    "error": {
        "message": "This model's maximum context length is 2048 tokens. However, you requested 2500 tokens.",
        "type": "BadRequestError",
        "code": 400,
    }
}


@asynccontextmanager
async def lengths(folder: Path, local: int = 2048, outside: int | None = 16385) -> AsyncIterator[House]:
    targets: dict[str, Any] = {"local": {"context_length": local}}
    if outside is not None:
        targets["outside"] = {"context_length": outside}
    async with house(folder, targets=targets) as running:
        yield running


async def target_of(home: House, messages: list[Any], **fields: Any) -> str:
    raw = await home.client().chat.completions.with_raw_response.create(model=MODEL, messages=messages, **fields)
    return str(raw.headers["x-passerelle-target"])


async def test_a_prompt_that_cannot_fit_goes_to_the_longer_target_at_once(tmp_path: Path) -> None:
    async with lengths(tmp_path) as home:
        assert await target_of(home, SHORT) == "local"
        assert await target_of(home, LONG) == "outside"
        assert await target_of(home, SHORT, max_tokens=4000) == "outside"
        assert len(home.local.asked) == 1


async def test_a_caller_whose_text_may_not_leave_gets_the_numbers_and_nobody_is_asked(tmp_path: Path) -> None:
    async with lengths(tmp_path) as home:
        client = home.client(may_leave=False)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=LONG, max_tokens=100)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
        assert "2048" in str(refused.value)
        assert "100" in str(refused.value)
        assert home.local.asked == home.outside.asked == []


async def test_what_the_model_server_finds_too_long_goes_to_the_longer_target(tmp_path: Path) -> None:
    async with lengths(tmp_path) as home:
        home.local.answers(refuses(400, SAYS_VLLM))
        home.outside.answers(says("Voici une réponse tout à fait française. "))
        assert await target_of(home, SHORT) == "outside"
        with pytest.raises(openai.BadRequestError) as refused:
            await home.client(may_leave=False).chat.completions.create(model=MODEL, messages=SHORT)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
        assert "2500" in str(refused.value)


@pytest.mark.parametrize("outside", [None, 2048])
async def test_a_target_not_known_to_be_longer_is_not_asked(tmp_path: Path, outside: int | None) -> None:
    async with lengths(tmp_path, outside=outside) as home:
        home.local.answers(refuses(400, SAYS_VLLM))
        with pytest.raises(openai.BadRequestError):
            await home.client().chat.completions.create(model=MODEL, messages=SHORT)
        assert len(home.local.asked) == 1
        assert home.outside.asked == []


async def test_a_repair_that_makes_the_prompt_too_long_ends_in_french_and_not_in_an_error(tmp_path: Path) -> None:
    english = says("I am sorry, but this whole answer is written in plain English. ")
    async with lengths(tmp_path, outside=None) as home:
        home.local.answers(english, refuses(400, SAYS_VLLM))
        answer = await home.client(may_leave=False).chat.completions.create(model=MODEL, messages=SHORT)
        assert answer.choices[0].finish_reason == "content_filter"
        assert (answer.choices[0].message.content or "").startswith("Je suis désolé")


async def test_images_go_to_the_target_whose_entry_says_so(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    asked: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "Que montre cette image ?"}, image]}]
    async with house(tmp_path, targets={"outside": {"images": True}}) as home:
        assert await target_of(home, asked) == "outside"
        assert home.outside.asked[0].body["messages"][1:] == asked
        with pytest.raises(openai.BadRequestError, match="takes no images"):
            await home.client(may_leave=False).chat.completions.create(model=MODEL, messages=asked)


async def test_when_the_longer_target_is_full_the_caller_is_told_to_come_back_and_not_refused_in_french(
    tmp_path: Path,
) -> None:
    longer = {"context_length": 16385, "concurrency": 1, "queue_length": 0}
    held = asyncio.Event()

    async def holds(exchange: Exchange) -> None:
        await held.wait()
        await says("Voici une réponse tout à fait française. ")(exchange)

    async with house(
        tmp_path, targets={"local": {"context_length": 2048}, "outside": longer}, times={"first_content": 20}
    ) as home:
        home.local.answers(refuses(400, SAYS_VLLM))
        home.outside.answers(holds)
        first = asyncio.create_task(target_of(home, SHORT))
        while not home.outside.asked:  # noqa: ASYNC110  # the condition is the fake's, seen from outside
            await asyncio.sleep(0.01)
        with pytest.raises(openai.InternalServerError) as told:
            await target_of(home, SHORT)
        assert (told.value.status_code, told.value.code) == (503, "overloaded")
        held.set()
        assert await first == "outside"
