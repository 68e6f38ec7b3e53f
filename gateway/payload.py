"""The body of a request, read up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from starlette.requests import Request

from gateway import protocol

_DISCARDED_BYTES = 64 * 1024 * 1024
_DISCARD_SECONDS = 5


async def read(http: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises PayloadTooLarge, or Starlette's ClientDisconnect."""
    parts, body = http.stream(), bytearray()
    length = http.headers.get("content-length", "")
    if not length.isdigit() or int(length) <= limit:
        async for part in parts:
            body += part
            if len(body) > limit:
                break
        else:
            return bytes(body)
    if "expect" not in http.headers:  # a client that asked first has sent nothing yet, and need not
        await _discard(parts)
    raise protocol.too_large(limit)


async def _discard(parts: AsyncGenerator[bytes]) -> None:
    # A connection that is closed with bytes unread is reset, and the client may never see why (RFC 9112, section 9.6).
    discarded = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            async for part in parts:
                discarded += len(part)
                if discarded > _DISCARDED_BYTES:
                    return
