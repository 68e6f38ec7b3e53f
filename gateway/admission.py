"""Who may ask a pool now, who waits, who is sent on: so many requests at once, a queue with a bound and a deadline, fairness.

A free place goes to the tenant with the fewest requests under way, whoever came first (max-min fairness). A queue that is full
makes room at the expense of the tenant with the most requests in it (McKenney, "Stochastic fairness queueing", 1990): nobody's
thousand requests keep out another's one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.errors import Overloaded

_MEMORY: Final = 0.1  # the weight of the last request in the mean of how long a place is held
_LONGEST_WAIT: Final = 60


class _Waiter:
    __slots__ = ("tenant", "turn")

    def __init__(self, tenant: str, turn: asyncio.Future[None]) -> None:
        self.tenant, self.turn = tenant, turn


class Admission:
    """The places of one pool. `places` requests at once, 0 for no bound; `length` may wait, each for at most `seconds`.

    All of it runs in one event loop; `clock` is a monotonic clock in seconds.
    """

    def __init__(self, places: int, length: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._places, self._length, self._seconds, self._clock = places, length, seconds, clock
        self._taken: dict[str, int] = {}
        self._queues: dict[str, deque[_Waiter]] = {}  # never an empty one; tenants in the order they were served
        self._held = 1.0
        self.under_way = 0
        self.waiting = 0

    @property
    def places(self) -> int:
        """How many requests may be under way at once; 0 is no bound."""
        return self._places

    def resize(self, places: int, length: int, seconds: float) -> None:
        """Go on with other bounds; who is in stays in."""
        self._places, self._length, self._seconds = places, length, seconds
        self._serve()

    async def enter(self, tenant: str) -> Place:
        """A place, at once or when it is the caller's turn.

        Raises:
            Overloaded: the queue is full, or the turn did not come in time.
        """
        if self._full():
            await self._turn(tenant)
        else:  # then nobody waits: a place that comes free is handed on at once
            self._count(tenant)
        return Place(self, tenant, self._clock())

    def leave(self, tenant: str, since: float) -> None:
        """Give a place back that was taken at `since`."""
        self._held += _MEMORY * (self._clock() - since - self._held)
        self._free(tenant)
        self._serve()

    def _full(self) -> bool:
        return bool(self._places) and self.under_way >= self._places

    async def _turn(self, tenant: str) -> None:
        """Wait in the queue until a place is the caller's; raises Overloaded."""
        if self.waiting >= self._length and not self._make_room(tenant):
            raise self._overloaded()
        waiter = _Waiter(tenant, asyncio.get_running_loop().create_future())
        self._queues.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await waiter.turn
        except TimeoutError:
            self._forget(waiter)
            raise self._overloaded() from None
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def _count(self, tenant: str) -> None:
        self.under_way += 1
        self._taken[tenant] = self._taken.get(tenant, 0) + 1

    def _free(self, tenant: str) -> None:
        self.under_way -= 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]

    def _serve(self) -> None:
        """Hand free places to those who wait."""
        while self.waiting and not self._full():
            tenant = min(self._queues, key=lambda name: self._taken.get(name, 0))  # the first of equals
            waiter = self._queues[tenant].popleft()
            rest = self._queues.pop(tenant)
            if rest:
                self._queues[tenant] = rest  # now the last of equals
            self.waiting -= 1
            if not waiter.turn.done():  # else it has just left, and has not been able to say so yet
                self._count(tenant)
                waiter.turn.set_result(None)

    def _make_room(self, tenant: str) -> bool:
        """Send away the newest request of the tenant with the longest queue, unless that is the newcomer's own."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]), default=None)
        if longest is None or len(self._queues[longest]) <= len(self._queues.get(tenant, ())) + 1:
            return False
        waiter = self._queues[longest][-1]
        self._drop(waiter)
        if not waiter.turn.done():
            waiter.turn.set_exception(self._overloaded())
        return True

    def _forget(self, waiter: _Waiter) -> None:
        """One who waited has left: out of the queue, or, if the turn came at the same moment, on with the place."""
        if waiter in self._queues.get(waiter.tenant, ()):
            self._drop(waiter)
        elif waiter.turn.cancelled():
            return
        elif waiter.turn.exception() is None:
            self._free(waiter.tenant)
            self._serve()

    def _drop(self, waiter: _Waiter) -> None:
        queue = self._queues[waiter.tenant]
        queue.remove(waiter)
        if not queue:
            del self._queues[waiter.tenant]
        self.waiting -= 1

    def _overloaded(self) -> Overloaded:
        # How long until as many places as there are in front of the caller have come free, by the mean of late.
        seconds = self._held * (self.waiting + 1) / max(1, self._places)
        wait = min(_LONGEST_WAIT, max(1, math.ceil(seconds)))
        return Overloaded(
            "The model has more requests than it can take: try again.", headers={"retry-after": str(wait)}
        )


class Place:
    """One request's place in a pool, held until `leave`."""

    __slots__ = ("_admission", "_since", "_tenant")

    def __init__(self, admission: Admission, tenant: str, since: float) -> None:
        self._admission: Admission | None = admission
        self._tenant, self._since = tenant, since

    def leave(self) -> None:
        """Give it back; only the first call counts."""
        if self._admission is not None:
            self._admission.leave(self._tenant, self._since)
            self._admission = None
