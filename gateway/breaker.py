"""A breaker for one replica: after so many failures in a row it is left alone, until one trial shows that it is back.

Nygard, "Release It!", chapter 5. No time passes here but the injected clock's, and nothing is locked: all of it runs in one
event loop.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

_MISSES: Final = 2  # one lost probe is chance


class State(enum.IntEnum):
    """`CLOSED` lets every request through, `TRIAL` has its one under way, `OPEN` lets none. The numbers are the metric's."""

    CLOSED = 0
    TRIAL = 1
    OPEN = 2


class Breaker:
    """Opens after `failures` in a row; `cool_down` seconds later one request is let through as a trial.

    `enter` gives a request its period; what is told of a request of an earlier period than the present one is old news and
    changes nothing. A period ends when the breaker opens. `clock` is a monotonic clock in seconds.

    Probes are a second opinion: two that fail in a row say that the replica is `down`. They never close a breaker, since a server
    can name its models over an engine that has died.
    """

    def __init__(self, failures: int, cool_down: float, clock: Callable[[], float]) -> None:
        self._limit, self._cool_down, self._clock = failures, cool_down, clock
        self._failures = 0
        self._period = 0
        self._opened: float | None = None
        self._trial = False
        self._missed = 0

    def adjust(self, failures: int, cool_down: float) -> None:
        """Go on with other bounds; what is known stays known."""
        self._limit, self._cool_down = failures, cool_down

    def state(self) -> State:
        """The state now; an open breaker whose time is over stays `OPEN` until its trial begins."""
        if self._opened is None:
            return State.CLOSED
        return State.TRIAL if self._trial else State.OPEN

    def wait(self) -> float:
        """Seconds until a request may be let through: 0 is now, infinity while a trial is under way."""
        if self._opened is None:
            return 0.0
        return float("inf") if self._trial else max(0.0, self._opened + self._cool_down - self._clock())

    def admits(self) -> bool:
        """Whether a request may go to this replica now."""
        return self.wait() == 0.0

    def enter(self) -> int:
        """Let a request through, and give its period.

        Raises:
            RuntimeError: the breaker does not admit it; a bug of the caller.
        """
        if not self.admits():
            raise RuntimeError("a request to a replica whose breaker is open")
        self._trial = self._opened is not None
        return self._period

    def answering(self, period: int) -> None:
        """An answer has begun. A trial's closes the breaker, but on probation: the next failure opens it again."""
        if period == self._period and self._trial:
            self._opened, self._trial = None, False
            self._failures = self._limit - 1

    def succeeded(self, period: int) -> None:
        """An answer has come to its end."""
        if period == self._period:
            self._opened, self._trial, self._failures = None, False, 0

    def failed(self, period: int) -> None:
        """The replica failed a request."""
        if period != self._period:
            return
        self._failures += 1
        if self._trial or self._failures >= self._limit:
            self._opened, self._trial, self._failures = self._clock(), False, 0
            self._period += 1

    def left(self, period: int) -> None:
        """A request ended without a word on the replica: its client left, or it was the request's fault."""
        if period == self._period:
            self._trial = False

    def probed(self, *, up: bool) -> None:
        """A probe has come back. One that finds a replica that was down has the trial of an open breaker wait no longer."""
        if up and self.down() and self._opened is not None:
            self._opened = float("-inf")
        self._missed = 0 if up else self._missed + 1

    def down(self) -> bool:
        """Whether the last probes failed, two in a row or more."""
        return self._missed >= _MISSES
