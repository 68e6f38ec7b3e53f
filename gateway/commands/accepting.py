"""Connections, taken few at a time.

All workers listen on one socket, so that whichever is free takes what comes. An event loop's own server takes all that wait as
soon as it wakes: of sixty connections that SDKs keep for hours one worker had thirty, and another one. Where each takes a few and
leaves the next to others for a moment, workers with nothing to do come out even, and a busy one takes fewer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

log = structlog.get_logger()

_AT_ONCE: Final = 2  # connections...
_PAUSE_SECONDS: Final = 0.001  # ... then none for so long: 2,000 a second are more than a worker answers requests
_AGAIN_SECONDS: Final = 1.0  # where none can be taken: descriptors or memory may be spent


class Acceptor:
    """Takes the connections of one listening socket until it is closed; the socket stays open."""

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        """`protocol` makes one for each connection."""
        self._listening, self._protocol = listening, protocol
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._paused: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._listening)
        if self._paused is not None:
            self._paused.cancel()

    async def settled(self) -> None:
        """Wait until whatever was taken is known to the server."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _resume(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        self._loop.remove_reader(self._listening)
        pause = _PAUSE_SECONDS
        try:
            for _ in range(_AT_ONCE):
                connection, _ = self._listening.accept()
                self._take(connection)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass  # there are no more, another worker has it, or it is gone
        except OSError as error:
            log.error("cannot_accept", reason=error.strerror)  # noqa: TRY400  # where it happened says nothing
            pause = _AGAIN_SECONDS
        self._paused = self._loop.call_later(pause, self._resume)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):  # it is gone already
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a token must not wait for the next
        connected = self._loop.create_task(self._connect(connection))
        self._connecting.add(connected)
        connected.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # it went away in between
            connection.close()
