"""Who takes a connection where several listen on one socket."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from gateway.commands.accepting import Acceptor


class Counting(asyncio.Protocol):
    """Counts itself into `taken`, and says hello."""

    def __init__(self, taken: list["Counting"]) -> None:
        taken.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"hello")


@asynccontextmanager
async def listening(workers: int) -> AsyncIterator[tuple[int, list[list[Counting]], list[Acceptor]]]:
    """The port, the connections of each worker, and what takes them."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as one:
        taken: list[list[Counting]] = [[] for _ in range(workers)]
        sockets = [one.dup() for _ in range(workers)]
        acceptors = [Acceptor(each, partial(Counting, mine)) for each, mine in zip(sockets, taken, strict=True)]
        yield one.getsockname()[1], taken, acceptors
        for acceptor in acceptors:
            acceptor.close()
        for each in sockets:
            each.close()


async def test_connections_that_come_at_once_are_shared_evenly() -> None:
    async with listening(4) as (port, taken, _):
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(64)))
        for reader, writer in opened:
            assert await reader.readexactly(5) == b"hello"
            writer.close()
        assert sum(map(len, taken)) == 64
        assert all(8 <= len(mine) <= 24 for mine in taken), [len(mine) for mine in taken]


async def test_a_closed_one_takes_no_more_and_the_others_go_on() -> None:
    async with listening(2) as (port, taken, acceptors):
        acceptors[0].close()
        for _ in range(6):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(5) == b"hello"
            writer.close()
        assert [len(mine) for mine in taken] == [0, 6]


async def test_after_descriptors_were_spent_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0

    def spent(self: socket.socket) -> tuple[socket.socket, object]:
        nonlocal refused
        refused += 1
        monkeypatch.undo()
        raise OSError(errno.EMFILE, "Too many open files")

    async with listening(1) as (port, taken, _):
        monkeypatch.setattr(socket.socket, "accept", spent)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        assert (refused, len(taken[0])) == (1, 1)
