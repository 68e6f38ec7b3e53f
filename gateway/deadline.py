"""A time limit that moves: for the waits of one exchange, of which each may begin the limit anew.

`asyncio.timeout` does the same for one wait, and makes a timer for each. Here one timer looks whether the time is over, and is
set again if that has moved.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """A context for waits in the task that made it; raises TimeoutError in one that is under way at the time `at`.

    Times are those of the event loop, in seconds. `move` sets another one between two waits, `close` ends it.
    """

    __slots__ = ("_at", "_cancelling", "_loop", "_passed", "_seen", "_task", "_timer", "_waiting")

    def __init__(self, at: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for waits within a task")
        self._at = self._seen = at  # the limit, and when the timer looks
        self._loop, self._task = asyncio.get_running_loop(), task
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = self._passed = False
        self._cancelling = 0

    def __enter__(self) -> None:
        self._waiting, self._cancelling = True, self._task.cancelling()
        if self._timer is None:
            self._set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._waiting = False
        if self._passed:
            self._passed = False
            # As in asyncio.timeout: unless somebody else has cancelled the task too, it was this.
            if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def move(self, at: float) -> None:
        """Set another time."""
        self._at = at
        if at < self._seen:
            self.close()

    def close(self) -> None:
        """Let go of the timer; another wait sets it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def over(self) -> bool:
        """Whether the time has come."""
        return self._loop.time() >= self._at

    def _set(self) -> None:
        self._seen, self._timer = self._at, self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return  # the next wait sets it
        if self.over():
            self._passed = True
            self._task.cancel()
        else:
            self._set()
