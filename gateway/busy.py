"""The busy time of a machine, shared out among the requests it has at once.

While it has `n` requests each second counts `1/n` of a second for each of them: the shares of all sum up to the time in which it
had any. One running sum is enough: a request's share is by how much the sum of `1/n` has grown while it was there. Requests of
other processes are among the `n` as far as the machine's own figures tell.
"""

from __future__ import annotations

from collections.abc import Callable


class Busy:
    """`clock` is a monotonic clock in seconds, `others` how many requests of others the machine has, None if nobody knows."""

    def __init__(self, clock: Callable[[], float], others: Callable[[], float | None] = lambda: None) -> None:
        self._clock, self._others = clock, others
        self._requests, self._grown, self._at = 0, 0.0, 0.0

    def enter(self) -> float:
        """A request begins: what it gives to `leave`."""
        self._grow()
        self._requests += 1
        return self._grown

    def leave(self, entered: float) -> float:
        """It ends: the seconds of the machine that were its own."""
        self._grow()
        self._requests -= 1
        return self._grown - entered

    def _grow(self) -> None:
        now = self._clock()
        if self._requests:
            self._grown += (now - self._at) / (self._requests + int(self._others() or 0))
        self._at = now
