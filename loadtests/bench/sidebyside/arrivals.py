"""How long answers take at a fixed rate of arrivals, whether or not earlier answers are there.

A request's time begins when it was due, not when it was sent: one that had to wait for a connection, or for this process, has
waited. Otherwise a server that stops for a second would look slow to the few that were under way alone ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from loadtests.bench.sidebyside.client import Caller, connect
from loadtests.bench.sidebyside.closed import Problems

_DRAIN_SECONDS = 30.0
_NEAR_SECONDS = (
    0.003  # event loops sleep in whole milliseconds: so close to the next arrival they look at the clock instead
)


@dataclass
class Times:
    """Seconds of each answer after the warm-up: the whole, to its first word, and from there to its end."""

    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


class Arrivals:
    """One measurement, over `connections` connections at most."""

    def __init__(self, url: str, requests: Iterator[bytes], *, rate: float, connections: int) -> None:
        self._url, self._requests = url, requests
        self._interval, self._connections = 1 / rate, connections
        self._times, self._counted_from = Times(), 0.0
        self._free: list[Caller] = []
        self._opened = self._under_way = 0
        self._due_of: dict[Caller, float] = {}
        self._waiting: deque[float] = deque()  # when they were due
        self._opening: set[asyncio.Task[None]] = set()
        self._all_sent = False
        self._idle = asyncio.Event()

    async def run(self, warm: float, seconds: float) -> Times:
        """Measure for so long, after `warm` seconds that do not count."""
        for _ in range(min(4, self._connections)):
            await self._open()
        began = time.perf_counter()
        self._counted_from = began + warm
        await self._arrive(began, int((warm + seconds) / self._interval))
        self._all_sent = True
        try:
            if self._under_way:
                await asyncio.wait_for(self._idle.wait(), _DRAIN_SECONDS)
        except TimeoutError:
            self._times.problems.add(
                f"{self._under_way} answers had not come {_DRAIN_SECONDS:g} s after the last arrival"
            )
        for caller in [*self._free, *self._due_of]:
            caller.transport.abort()
        return self._times

    async def _arrive(self, began: float, count: int) -> None:
        for number in range(count):
            due = began + number * self._interval
            while (left := due - time.perf_counter()) > 0:  # noqa: ASYNC110  # a point in time has no event
                await asyncio.sleep(left - _NEAR_SECONDS if left > _NEAR_SECONDS else 0)
            self._under_way += 1
            self._waiting.append(due)
            self._send()

    def _send(self) -> None:
        """Give the longest waiting request a connection, if one is free or may be opened."""
        while self._free and self._free[-1].lost:
            self._free.pop()
            self._opened -= 1
        if self._free:
            caller = self._free.pop()
            self._due_of[caller] = self._waiting.popleft()
            caller.ask(next(self._requests))
        elif self._opened + len(self._opening) < self._connections:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        self._free.append(await connect(self._url, self._done, watching=True))
        self._opened += 1
        if self._waiting:
            self._send()

    def _done(self, caller: Caller, problem: str) -> None:
        due = self._due_of.pop(caller)
        if problem:
            self._times.problems.add(problem)
        elif due >= self._counted_from:
            self._times.whole.append(caller.ended - due)
            self._times.first.append(caller.first - due)
            self._times.rest.append(caller.ended - caller.first)
        self._free.append(caller)
        self._under_way -= 1
        if self._waiting:
            self._send()
        elif self._all_sent and not self._under_way:
            self._idle.set()
