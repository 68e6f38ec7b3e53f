"""A pass-through of FastAPI and aiohttp that does nothing else: what any gateway in Python has to pay.

`python -m loadtests.bench.sidebyside.bare PORT UPSTREAM [collect]` asks as it was asked; with `collect` the upstream is always
asked for a stream, and a plain answer is gathered from it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse


async def _passed_on(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece


async def gathered(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The plain answer that the events of a stream amount to."""
    texts: list[str] = []
    chunk: dict[str, Any] = {}
    usage = finish = None
    async with answer:
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                texts.append(choice["delta"].get("content") or "")
                finish = choice["finish_reason"] or finish
    message = {"role": "assistant", "content": "".join(texts)}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
    about = {name: chunk.get(name) for name in ("id", "created", "model")}
    return {**about, "object": "chat.completion", "choices": choices, "usage": usage}


def application(upstream: str, *, collect: bool) -> FastAPI:
    """The whole of it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield {"session": session}

    made = FastAPI(lifespan=lifespan)

    @made.get("/")
    async def up() -> str:
        return "up"

    @made.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked = await request.json()
        stream = asked.get("stream") is True
        if collect:
            asked["stream"] = True
        session: aiohttp.ClientSession = request.state.session
        answer = await session.post(f"{upstream}/chat/completions", json=asked)
        if stream:
            return StreamingResponse(_passed_on(answer), answer.status, media_type="text/event-stream")
        if collect:
            return Response(json.dumps(await gathered(answer)), answer.status, media_type="application/json")
        async with answer:
            return Response(await answer.read(), answer.status, media_type="application/json")

    return made


if __name__ == "__main__":
    port, upstream, *rest = sys.argv[1:]
    uvicorn.run(
        application(upstream, collect=rest == ["collect"]),
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
