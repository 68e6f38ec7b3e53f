"""A real uvicorn on a loopback port, for any ASGI application, in the test's own event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # Ctrl-C belongs to pytest


@contextlib.asynccontextmanager
async def serve(app: Any, **config: Any) -> AsyncIterator[str]:
    """Give the base URL of `app` once its lifespan has started; raises RuntimeError when that fails.

    `config` are uvicorn settings that differ from these.
    """
    settings: dict[str, Any] = {
        "log_level": "warning",
        "ws": "none",
        "timeout_graceful_shutdown": 2,
        "proxy_headers": False,  # uvicorn believes X-Forwarded-For from 127.0.0.1, where every test comes from
    }
    # With the protocol named: asyncio sends small packets at once (TCP_NODELAY) on such sockets only, as a server has them that
    # binds its address itself. Without, each answer on a kept connection waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, **(settings | config)))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    up = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait({running, up}, return_when=asyncio.FIRST_COMPLETED)
        if server.should_exit or running.done():
            raise RuntimeError("the application did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        up.cancel()
        server.should_exit = True
        await running
        listener.close()
