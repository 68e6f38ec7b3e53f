"""What becomes of requests while the process stops."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import errors
from gateway.errors import ServerStopping


class Stopping:
    """Whether this process has been told to stop. Its server cancels what is under way when the time for it is over."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """It has."""
        self.begun = True


def stopped() -> ServerStopping:
    """What a request is told whose time is over."""
    return ServerStopping("The gateway is being restarted: try again.", headers={"retry-after": "5"})


class Closing:
    """ASGI middleware: once the process stops, every connection ends with its answer, and a cancelled request is a 503."""

    def __init__(self, app: ASGIApp, stopping: Stopping) -> None:
        self._app, self._stopping = app, stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def closing(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if self._stopping.begun:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, receive, closing)
        except asyncio.CancelledError:
            if not self._stopping.begun:
                raise
            if not begun:  # else the server closes the connection, as an answer that is cut has to end
                status, headers, body = errors.render(stopped())
                pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
                await closing({"type": "http.response.start", "status": status, "headers": pairs})
                await send({"type": "http.response.body", "body": body})
