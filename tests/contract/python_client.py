"""Plays calls with openai-python; `client.mjs` is its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

import openai
from pydantic import BaseModel

from tests.contract.calls import Call, Seen


@asynccontextmanager
async def play(call: Call) -> AsyncIterator[Seen]:
    """What is seen of a call; the client is closed at the end."""
    async with openai.AsyncOpenAI(
        base_url=call.base_url, api_key=call.api_key, max_retries=call.max_retries
    ) as library:
        seen = Seen()
        try:
            await _ask(library, call, seen)
        except openai.APIError as error:
            seen.error = _told(error)
        yield seen


async def _ask(library: openai.AsyncOpenAI, call: Call, seen: Seen) -> None:
    words = [] if call.named is None else [call.named]
    body = call.body or {}
    asked: Any = attrgetter(call.method)(library)(*words, **body)
    if call.method == "chat.completions.stream":
        async with asked as stream:
            seen.answer = _shown(await stream.get_final_completion())  # the SDK's own accumulator
        return
    answer: Any = await asked
    if body.get("stream"):
        seen.request_id = answer.response.headers["x-request-id"]
        async for chunk in answer:
            seen.chunks.append(_shown(chunk))
            if len(seen.chunks) == call.leave_after:
                await answer.close()
                break
    elif call.method.endswith(".list"):
        seen.request_id = answer._request_id
        seen.items = [_shown(item) async for item in answer]
    else:
        seen.request_id = answer._request_id
        seen.answer = _shown(answer)


def _shown(model: BaseModel) -> dict[str, Any]:
    # The library builds its models unchecked; writing them says whether the gateway's values have the declared types.
    return model.model_dump(mode="json", exclude_unset=True, warnings="error")


def _told(error: openai.APIError) -> dict[str, Any]:
    response = error.response if isinstance(error, openai.APIStatusError) else None
    return {
        "class": type(error).__name__,
        "status": error.status_code if isinstance(error, openai.APIStatusError) else None,
        "code": error.code,
        "type": error.type,
        "param": error.param,
        "message": error.body.get("message") if isinstance(error.body, dict) else None,
        "request_id": error.request_id if isinstance(error, openai.APIStatusError) else None,
        "retry_after": response.headers.get("retry-after") if response is not None else None,
    }
