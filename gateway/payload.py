"""The body of a request, read up to a limit."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from gateway import protocol

_DISCARDED_BYTES = 64 * 1024 * 1024
_DISCARD_SECONDS = 5


class _Parts:
    """A body as the server gives it, one message after another; most have only one."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


async def read(http: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises PayloadTooLarge, or Starlette's ClientDisconnect."""
    parts = _Parts(http.receive)
    length = http.headers.get("content-length", "")
    if not length.isdigit() or int(length) <= limit:
        body = await parts.next()
        if not parts.ended:
            body = await _rest(parts, body, limit)
        if len(body) <= limit:
            return body
    if "expect" not in http.headers:  # a client that asked first has sent nothing yet, and need not
        await _discard(parts)
    raise protocol.too_large(limit)


async def _rest(parts: _Parts, begun: bytes, limit: int) -> bytes:
    body = bytearray(begun)
    while not parts.ended and len(body) <= limit:
        body += await parts.next()
    return bytes(body)


async def _discard(parts: _Parts) -> None:
    # A connection that is closed with bytes unread is reset, and the client may never see why (RFC 9112, section 9.6).
    discarded = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while not parts.ended and discarded <= _DISCARDED_BYTES:
                discarded += len(await parts.next())
