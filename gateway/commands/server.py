"""A worker's uvicorn: it stops in steps, each within its time, and tells its supervisor that it lives.

At SIGTERM `/readyz` says so at once, and for `drain_seconds` new connections are still served. Then none are, and what is under
way has the rest of `shutdown_seconds`; what is left ends by an error. Closing the rest takes `CLOSING_SECONDS` at the most. A
second SIGTERM ends the waiting. SIGUSR1 is for a worker whose place another has taken: that one accepts, so this one stops
accepting, but lets idle connections run out, since a request may be on its way over any of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from socket import socket
from types import FrameType
from typing import Any, Final, NamedTuple

import structlog
import uvicorn

from gateway.commands.accepting import Acceptor
from gateway.stopping import Stopping

log = structlog.get_logger()

CLOSING_SECONDS: Final = (
    7.0  # after the time of the streams: their last words 2, cutting them 1, ledger and pools 3, spare 1
)
_LAST_WORDS_SECONDS: Final = 2.0
_CUT_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 3.0
_IDLE_SECONDS: Final = (
    5.0  # uvicorn closes a connection that has been idle for so long after an answer, but not one never used
)
_TWICE_SECONDS: Final = 0.5  # one Ctrl-C often comes twice, from the terminal and from the program above
_TICK_SECONDS: Final = 0.05


class Grace(NamedTuple):
    """The times of a stop, in seconds from the signal."""

    drain: float
    shutdown: float


class Server(uvicorn.Server):
    """`prepare` is awaited before the application starts, `ready` called once connections are accepted.

    `beat` is called twice a second, and says whether anybody heard it: if not, that is as a SIGTERM.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        stopping: Stopping,
        grace: Grace,
        prepare: Callable[[], Awaitable[None]],
        beat: Callable[[], bool],
        ready: Callable[[], object],
    ) -> None:
        super().__init__(config)
        self._stopping, self._grace = stopping, grace
        self._prepare, self._beat, self._ready = prepare, beat, ready
        self._began = float("inf")  # when the first signal came
        self._told = float("-inf")  # when the last SIGTERM came
        self._hastened = float("inf")
        self._replaced = False
        self._acceptors: list[Acceptor] = []

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """As uvicorn does, with a beating heart."""
        beating = asyncio.create_task(self._live())
        try:
            await super().serve(sockets)
        finally:
            beating.cancel()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Prepare, start, and say so."""
        await self._prepare()
        await super().startup([])
        self._acceptors = [Acceptor(each, self._protocol) for each in sockets or ()]
        self._ready()

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # uvicorn types it as any protocol
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear the signals; unlike uvicorn's, a stop that went well does not raise them again."""
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGUSR1, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or hasten."""
        now = time.monotonic()
        if not self._stopping.begun:
            self._stopping.begin()
            self._began, self._replaced = now, sig == signal.SIGUSR1
            self.should_exit = True
            threading.Thread(target=self._end_for_sure, daemon=True).start()
        if sig == signal.SIGTERM:
            self._replaced = False
            if now - self._told > _TWICE_SECONDS and self._told > 0:
                self._hastened = min(self._hastened, now)
            self._told = now if self._told < 0 else self._told

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Every step of the stop, in order."""
        self._began = min(self._began, time.monotonic())
        log.info("stopping", seconds=self._grace.shutdown, requests=len(self.server_state.tasks))
        drained = self._began + self._grace.drain
        while not self._replaced and time.monotonic() < min(drained, self._deadline()):  # noqa: ASYNC110  # a signal ends it
            await asyncio.sleep(_TICK_SECONDS)
        for acceptor in self._acceptors:
            acceptor.close()
        for each in sockets or ():
            each.close()
        for acceptor in self._acceptors:
            await acceptor.settled()
        await self._last_answers()
        await self._cut()
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), _CLOSE_SECONDS)
        except TimeoutError:
            _end("what is behind the gateway does not answer")

    async def _last_answers(self) -> None:
        state = self.server_state
        while (state.connections or state.tasks) and time.monotonic() < self._deadline():
            silent = time.monotonic() > self._began + _IDLE_SECONDS
            for connection in list(state.connections):
                # Of a replaced worker each connection ends with an answer that says so, or after five idle seconds as ever: a
                # request may be on its way over any other.
                if not self._replaced or (silent and not _used(connection)):
                    connection.shutdown()  # at once if it is idle, else with its answer
            await asyncio.sleep(_TICK_SECONDS)

    async def _cut(self) -> None:
        tasks, connections = self.server_state.tasks, self.server_state.connections
        if tasks:
            log.warning("requests_cut", requests=len(tasks), seconds=round(time.monotonic() - self._began, 1))
        for task in list(tasks):
            task.cancel()
        await _emptied(tasks, connections, seconds=_LAST_WORDS_SECONDS)
        for connection in list(connections):  # who does not read would hold up everybody
            connection.transport.abort()
        await _emptied(tasks, connections, seconds=_CUT_SECONDS)

    def _deadline(self) -> float:
        return min(self._began + self._grace.shutdown, self._hastened)

    async def _live(self) -> None:
        while True:
            if (
                not self._beat() and not self._stopping.begun
            ):  # begun, it stops in its time: a second signal would hasten it
                self.handle_exit(signal.SIGTERM, None)
            await asyncio.sleep(0.5)

    def _end_for_sure(self) -> None:
        """In a thread of its own: neither a hanging event loop nor a thread that is waited for keeps the process."""
        while time.monotonic() < self._deadline() + CLOSING_SECONDS:
            time.sleep(_TICK_SECONDS)
        _end("closing took too long")


def _end(reason: str) -> None:
    """Leave everything as it is: the journal has the rows, and the next start puts them into the database."""
    log.warning("closing_cut_short", reason=reason)
    os._exit(0)


def _used(connection: Any) -> bool:
    return connection.cycle is not None


async def _emptied(*sets: set[Any], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(sets) and time.monotonic() < until:  # noqa: ASYNC110  # uvicorn's sets, which tell nobody
        await asyncio.sleep(_TICK_SECONDS)
