"""A model server that takes time and does nothing else: so many answers at once, the others wait in line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PREFILL_SECONDS = 0.05
TOKEN_SECONDS = 0.01


class Replica:
    """`slowness` stretches the seconds of a prompt and of a token; `slots` is how many answers are computed at once."""

    def __init__(self, slowness: float, slots: int) -> None:
        self._slowness, self._size = slowness, slots
        self._slots = asyncio.Semaphore(slots)  # first come, first served
        self._open = 0
        self._running = 0
        self.url = ""

    async def chat(self, http: web.Request) -> web.StreamResponse:
        """The first token when the prompt has been computed, the rest in one piece at the end."""
        tokens = (await http.json())["max_tokens"]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        self._open += 1
        try:
            async with self._slots:
                self._running += 1
                try:
                    await asyncio.sleep(PREFILL_SECONDS * self._slowness)
                    await response.prepare(http)
                    await response.write(_event("Premier"))
                    await asyncio.sleep(TOKEN_SECONDS * self._slowness * tokens)
                finally:
                    self._running -= 1
        finally:
            self._open -= 1
        await response.write(_event(" et dernier.") + b"data: [DONE]\n\n")
        return response

    async def metrics(self, _: web.Request) -> web.Response:
        """The three figures that the gateway reads, by vLLM's names."""
        figures = {
            "vllm:num_requests_running": self._running,
            "vllm:num_requests_waiting": self._open - self._running,
            "vllm:kv_cache_usage_perc": self._running / self._size,
        }
        return web.Response(text="".join(f'{name}{{engine="0"}} {value}\n' for name, value in figures.items()))


def _event(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()


@asynccontextmanager
async def served(replica: Replica) -> AsyncIterator[Replica]:
    """The replica on a loopback port; its `url` ends in /v1."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", replica.chat)
    app.router.add_get("/metrics", replica.metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    replica.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield replica
    finally:
        await runner.cleanup()
