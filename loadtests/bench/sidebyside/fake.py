"""A model server that has its answers ready: as little work as Python allows, for it shares a core with the callers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from loadtests.bench.sidebyside.answers import LENGTHS, answer

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)
_WANTED = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
_STREAM = re.compile(rb'"stream": ?true')
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"bench"}]}'
_LISTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_MODELS), _MODELS)
_METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
_MEASURED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(_METRICS), _METRICS)


class Fake:
    """`pace` is the seconds between two tokens of a stream; at 0 each comes as soon as the one before it has left.

    Each event is a write of its own, as model servers do it, in a turn of its own of the event loop, which would join them else.
    """

    def __init__(self) -> None:
        self.url, self.pace = "", 0.0
        self._plain = {count: answer(count).plain for count in LENGTHS}
        self.connections: set[Connection] = set()

    def reply(self, head: bytes, body: bytes, transport: asyncio.Transport) -> None:
        """Answer one request."""
        if not head.startswith(b"POST"):
            transport.write(_MEASURED if head.startswith(b"GET /metrics") else _LISTED)
            return
        wanted = _WANTED.search(body)
        count = int(wanted[1]) if wanted else LENGTHS[0]
        if not _STREAM.search(body):
            transport.write(self._plain[count])
        else:
            transport.write(answer(count).stream_head)
            self._paced(transport, answer(count).events, 0)

    def _paced(self, transport: asyncio.Transport, events: tuple[bytes, ...], place: int) -> None:
        if transport.is_closing():
            return
        # The role's event comes with the first token; those after the last token come with it.
        behind = place >= len(events) - 4
        transport.write(b"".join(events[place:] if behind else events[place : place + (2 if place == 0 else 1)]))
        if not behind:
            following = 2 if place == 0 else place + 1
            loop = asyncio.get_running_loop()
            if self.pace:
                loop.call_later(self.pace, self._paced, transport, events, following)
            else:
                loop.call_soon(self._paced, transport, events, following)


class Connection(asyncio.Protocol):
    """One caller's connection; its requests come one after another."""

    def __init__(self, fake: Fake) -> None:
        self._fake, self._buffer = fake, b""
        self.transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._fake.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._fake.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or not self._whole(buffer, end):
            self._buffer = buffer
            return
        self._buffer = b""
        self._fake.reply(buffer[:end], buffer[end + 4 :], self.transport)

    @staticmethod
    def _whole(buffer: bytes, end: int) -> bool:
        if length := _LENGTH.search(buffer, 0, end):
            return len(buffer) >= end + 4 + int(length[1])
        return not _CHUNKED.search(buffer, 0, end) or buffer.endswith(b"\r\n0\r\n\r\n")


@asynccontextmanager
async def fake() -> AsyncIterator[Fake]:
    """A running one; its `url` ends in /v1."""
    made = Fake()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(made), "127.0.0.1", 0, backlog=2048)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()
        for connection in list(made.connections):
            connection.transport.abort()
        await server.wait_closed()
