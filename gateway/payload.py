"""The body of a request, read up to a limit."""

from starlette.requests import Request

from gateway import protocol


async def read(http: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises PayloadTooLarge, or Starlette's ClientDisconnect."""
    length = http.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise protocol.too_large(limit)
    body = bytearray()
    async for part in http.stream():
        body += part
        if len(body) > limit:
            raise protocol.too_large(limit)
    return bytes(body)
