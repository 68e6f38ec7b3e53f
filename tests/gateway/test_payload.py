"""A body over the limit is refused so that its sender learns why: no reset while it is still sending."""

import asyncio
from pathlib import Path

import pytest

from tests.house import House, house

LIMIT = 64 * 1024


async def send(home: House, *, size: int, chunked: bool = False, expect: bool = False) -> bytes:
    """The whole answer to a body of `size` bytes, from a client that sends before it reads."""
    host, port = home.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = ["POST /v1/chat/completions HTTP/1.1", f"host: {host}", f"authorization: Bearer {home.token()}"]
    lines += ["transfer-encoding: chunked" if chunked else f"content-length: {size}", "connection: close"]
    lines += ["expect: 100-continue"] if expect else []
    writer.write("\r\n".join([*lines, "", ""]).encode())
    if not expect:
        for start in range(0, size, 65536):
            part = b"x" * min(65536, size - start)
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [LIMIT + 1, 20 * LIMIT, 200 * LIMIT])
async def test_the_sender_of_too_much_gets_its_413(tmp_path: Path, size: int, chunked: bool) -> None:
    async with house(tmp_path, server={"body_limit_bytes": LIMIT}) as home:
        for _ in range(5):  # a reset is a race
            answer = await send(home, size=size, chunked=chunked)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"request_too_large" in answer


async def test_a_client_that_asks_first_is_refused_before_it_sends(tmp_path: Path) -> None:
    async with house(tmp_path, server={"body_limit_bytes": LIMIT}) as home:
        answer = await asyncio.wait_for(send(home, size=10 * LIMIT, expect=True), 5)
        assert answer.startswith(b"HTTP/1.1 413 ")
