"""How often the tokens of a stream are handed on, where a worker has many streams.

Handing on costs about as much for several tokens as for one. Of few streams each token leaves as it comes. The more streams
there are, the longer each is left alone after its last tokens, so that a worker does not spend all its time on handing on, and
those who wait for their first word do not wait for that.
"""

from __future__ import annotations

import asyncio
from typing import Final

EACH: Final = 0.0003  # seconds between two looks at streams, of whichever: about four times what one takes
LONGEST: Final = 0.1  # seconds: what follows in such steps still reads like one text
_SHORTEST: Final = 0.001  # no timer is finer


class Pace:
    """The streams of one worker: how many have begun."""

    def __init__(self) -> None:
        self.streams = 0

    def pause(self) -> float:
        """Seconds that a stream is left alone after tokens of it have come."""
        return min(LONGEST, EACH * self.streams)


class Steps:
    """One stream among those of `pace`; times are those of the event loop, in seconds."""

    __slots__ = ("_begun", "_next", "_over", "_pace", "_waiter")

    def __init__(self, pace: Pace) -> None:
        self._pace, self._next = pace, 0.0
        self._begun = self._over = False
        self._waiter: asyncio.Future[None] | None = None

    def came(self, now: float) -> None:
        """Tokens have come."""
        if not self._begun:
            self._begun = True
            self._pace.streams += 1
        self._next = now + self._pace.pause()

    async def pause(self, now: float) -> None:
        """Wait until it is time to look at it again."""
        left = self._next - now
        if left < _SHORTEST or self._over:
            return
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(left, self._wake)
        try:
            await waiter
        finally:
            timer.cancel()

    def over(self) -> None:
        """The server has sent all of it: nothing is worth waiting for."""
        self._over = True
        self._wake()

    def end(self) -> None:
        """It is read to its end, or given up; may be told more than once."""
        if self._begun:
            self._begun = False
            self._pace.streams -= 1

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
