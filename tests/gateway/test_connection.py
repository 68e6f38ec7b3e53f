"""A caller's connection: what is written in one turn leaves at once and together, and the caller's leaving is heard of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.commands.connection import Connection, Cork
from gateway.disconnect import GONE

START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
REQUEST = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b"


class Transport:
    """Notes what is given to the kernel, call by call."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed: list[str] = []
        self.get_extra_info = self.pause_reading = self.resume_reading = lambda *_: None

    def writelines(self, pieces: list[bytes]) -> None:
        self.written.append(b"".join(pieces))

    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self) -> None:
        self.closed.append("close")

    def abort(self) -> None:
        self.closed.append("abort")


def corked() -> tuple[Transport, Cork]:
    transport = Transport()
    return transport, Cork(cast("Any", transport))


async def test_what_is_written_in_one_turn_leaves_in_one_call_when_it_ends() -> None:
    transport, cork = corked()
    for piece in (b"head", b" text", b" end"):
        cork.write(piece)
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"head text end"]
    cork.write(b"more")
    cork.flush()
    await asyncio.sleep(0)
    assert transport.written == [b"head text end", b"more"]


async def test_much_does_not_wait_for_the_turn_s_end() -> None:
    transport, cork = corked()
    cork.write(b"x" * 40_000)
    cork.write(b"y" * 40_000)
    assert [len(piece) for piece in transport.written] == [80_000]


async def test_a_close_lets_all_leave_first_and_an_abort_nothing() -> None:
    transport, cork = corked()
    cork.write(b"last words")
    cork.close()
    assert (transport.written, transport.closed) == ([b"last words"], ["close"])
    cork.write(b"to nobody")
    await asyncio.sleep(0)
    assert transport.written == [b"last words"]
    transport, cork = corked()
    cork.write(b"lost")
    cork.abort()
    await asyncio.sleep(0)
    assert (transport.written, transport.closed) == ([], ["abort"])


@asynccontextmanager
async def serving(app: Callable[[Scope, Receive, Send], Any]) -> AsyncIterator[int]:
    """A server of uvicorn's with our connections; its port."""
    config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    state = uvicorn.server.ServerState()

    def connection() -> Connection:
        return Connection(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in list(state.connections):
            each.transport.abort()
        await server.wait_closed()


class Caller(asyncio.Protocol):
    """Notes what comes, piece by piece."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.came.append(data)
        self.news.set()

    async def hears(self, end: bytes) -> None:
        async with asyncio.timeout(5):
            while not b"".join(self.came).endswith(end):
                self.news.clear()
                await self.news.wait()


async def calling(port: int, body: bytes = b"") -> tuple[asyncio.Transport, Caller]:
    transport, caller = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
    transport.write(REQUEST % (len(body), body))
    return transport, caller


async def test_an_answer_comes_in_one_piece_one_after_another_and_a_first_text_does_not_wait_for_the_rest() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(dict(START))
        await send({"type": "http.response.body", "body": b"text", "more_body": True})
        if scope["path"] == "/slow":
            await go.wait()
        await send({"type": "http.response.body", "body": b"end"})

    async with serving(app) as port:
        transport, caller = await calling(port)
        await caller.hears(b"3\r\nend\r\n0\r\n\r\n")
        assert len(caller.came) == 1
        transport.write(REQUEST % (0, b""))  # over the same connection
        async with asyncio.timeout(5):
            while len(caller.came) < 2:
                caller.news.clear()
                await caller.news.wait()
        assert caller.came[1].endswith(b"3\r\nend\r\n0\r\n\r\n")
        transport.write(REQUEST.replace(b"/x", b"/slow") % (0, b""))
        await caller.hears(b"4\r\ntext\r\n")
        go.set()
        await caller.hears(b"3\r\nend\r\n0\r\n\r\n")
        assert len(caller.came) == 4
        transport.close()


@pytest.mark.parametrize("size", [0, 100_000, 1_000_000])  # above 64 KB the connection is halted while a body comes
async def test_the_caller_s_leaving_is_told_once_to_whoever_still_cares(size: int) -> None:
    told: list[str] = []
    left, heard, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tell = scope["extensions"][GONE]["tell"]
        while (await receive())["more_body"]:
            pass

        def leave() -> None:
            told.append("left")
            left.set()

        tell(lambda: told.append("too early"))
        tell(None)
        tell(leave)
        heard.set()
        await left.wait()
        tell(lambda: told.append("left before"))
        assert told == ["left"]  # not at once: whoever asks may have nothing left that could be cancelled
        await asyncio.sleep(0)
        done.set()

    async with serving(app) as port, asyncio.timeout(10):
        transport, _ = await calling(port, b"x" * size)
        await heard.wait()
        transport.abort()
        await done.wait()
        assert told == ["left", "left before"]


async def test_who_has_ended_its_side_still_reads_what_was_written() -> None:
    transport, cork = corked()
    made = Connection(config=uvicorn.Config(lambda: None), server_state=uvicorn.server.ServerState(), app_state={})
    made._cork = cork
    cork.write(b"last words")
    made.eof_received()
    assert transport.written == [b"last words"]
