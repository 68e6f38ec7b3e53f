"""A caller's connection: uvicorn's, which joins what is written in one turn of the event loop, and says when the caller leaves.

uvicorn writes the head of an answer, each text and the end one by one, and uvloop gives each to the kernel at once. Where much
goes on, a short answer has come whole by the time that it is looked at: all of it leaves in one system call then. What comes
alone waits for nothing but the end of the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.disconnect import GONE

_MOST: Final = 65_536  # bytes that are held; then whoever does not read is to be felt, as ever


class Cork:
    """A transport that keeps what is written until the turn ends, or until `flush`; as much of one as uvicorn uses."""

    __slots__ = (
        "_held",
        "_size",
        "_soon",
        "_transport",
        "get_extra_info",
        "is_closing",
        "pause_reading",
        "resume_reading",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._soon = transport, asyncio.get_running_loop().call_soon
        self._held: list[bytes] = []
        self._size = 0
        self.get_extra_info, self.is_closing = transport.get_extra_info, transport.is_closing
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def write(self, data: bytes) -> None:
        """Keep it; where much is kept it leaves at once."""
        if not self._held:
            self._soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Give on what is kept; where the connection closes nobody is there for it any more."""
        if self._held:
            held, self._held, self._size = self._held, [], 0
            if not self.is_closing():
                self._transport.writelines(held)

    def close(self) -> None:
        """Close once all has left."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is kept is lost."""
        self._held.clear()
        self._transport.abort()


class Connection(HttpToolsProtocol):
    """uvicorn's, over a cork; an answer that is complete does not wait for the turn's end."""

    _leave: Callable[[], None] | None = None
    _lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Put the cork on."""
        self._cork = Cork(transport)
        super().connection_made(cast("Any", self._cork))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever works for the caller."""
        self._lost = True
        super().connection_lost(exc)
        if self._leave is not None:
            self._leave()

    def eof_received(self) -> None:
        """Who has ended its side may still read what was written; the connection closes now."""
        self._cork.flush()
        super().eof_received()

    def on_message_begin(self) -> None:
        """A request's scope says how to hear of the caller's leaving."""
        super().on_message_begin()
        self.scope["extensions"] = {GONE: {"tell": self._tell}}

    def on_response_complete(self) -> None:
        """Let it all go."""
        self._cork.flush()
        super().on_response_complete()

    def _tell(self, leave: Callable[[], None] | None) -> None:
        """Have `leave` called when the caller leaves; None: nobody cares any more. Of one connection one request is answered."""
        self._leave = leave
        if leave is None:
            return
        if self._lost:
            # Not in the midst of whoever asks, which may have nothing left to wait for that could be cancelled.
            self.loop.call_soon(leave)
        else:
            self.flow.resume_reading()  # a large body has halted it, and a connection that is not read is never seen to end
