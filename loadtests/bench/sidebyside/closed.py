"""What a server does at most: so many connections, each asking its next question when it has the answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loadtests.bench.sidebyside.client import Caller, connect

PARTS = 3  # of a measurement: their spread tells how steady it was
_SLOW_SECONDS = 15.0  # beyond the time of a measurement: then one part has to do
_PATIENCE_SECONDS = 90.0  # for the first answers, for as many as are wanted, and for the last ones


@dataclass
class Problems:
    """How many answers were not as they should be, and the first one's problem."""

    count: int = 0
    first: str = ""

    def add(self, problem: str) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or problem


@dataclass
class Rates:
    """Answers a second in each part, and what went wrong."""

    per_second: list[float]
    problems: Problems = field(default_factory=Problems)


def rates(began: float, ended: Sequence[float], connections: int) -> list[float]:
    """Answers a second in parts of equally many answers, one for each connection at least, from when they ended, in order.

    A part lasts from the last answer before it to its own last. Where many answers come at once, and then none for a while, parts
    of equal length would depend on which of them a boundary happens to lie between.
    """
    if not ended:
        return [0.0]
    parts = max(1, min(PARTS, len(ended) // connections))
    size = len(ended) // parts
    marks = [began, *(ended[size * number - 1] for number in range(1, parts + 1))]
    return [size / max(later - earlier, 1e-9) for earlier, later in itertools.pairwise(marks)]


class Closed:
    """One measurement. What counts begins after `warm` seconds, and not before there was an answer for each connection.

    It takes `seconds`, or as long as it takes until each of PARTS parts has as many answers as there are connections: of a slow
    server that answers many at once a shorter one would show but a burst, or none. A very slow one has one part.
    """

    def __init__(self, url: str, requests: Iterator[bytes], warm: float, seconds: float) -> None:
        self._url, self._requests = url, requests
        self._warm, self._seconds = warm, seconds
        self._problems = Problems()
        self._ended: list[float] = []
        self._warm_until = self._from = 0.0
        self._unheard = self._connections = self._busy = 0
        self._over = False
        self._idle = asyncio.Event()

    def _done(self, caller: Caller, problem: str) -> None:
        now = time.perf_counter()
        self._unheard -= 1
        if problem:
            self._problems.add(problem)
        elif self._from and not self._over:
            self._ended.append(now)
        if not self._from:
            self._from = now if self._unheard <= 0 and now >= self._warm_until else 0.0
        elif self._enough(now - self._from):
            self._over = True
        if not (self._over or caller.lost):
            caller.ask(next(self._requests))
            return
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    def _enough(self, seconds: float) -> bool:
        answers = len(self._ended) + self._problems.count
        wanted = (PARTS if seconds < self._seconds + _SLOW_SECONDS else 1) * self._connections
        return seconds >= self._seconds and (answers >= wanted or seconds > self._seconds + _PATIENCE_SECONDS)

    async def run(self, connections: int) -> Rates:
        """Measure; ends when the last answer is there."""
        callers = [await connect(self._url, self._done) for _ in range(connections)]
        self._warm_until = time.perf_counter() + self._warm
        self._unheard = self._connections = self._busy = connections
        for caller in callers:
            caller.ask(next(self._requests))
        try:
            await asyncio.wait_for(self._idle.wait(), self._warm + self._seconds + 3 * _PATIENCE_SECONDS)
        except TimeoutError:
            self._problems.add(f"{self._busy} answers had not come {_PATIENCE_SECONDS:g} s after the end")
        for caller in callers:
            caller.transport.abort()
        return Rates(rates(self._from, self._ended, connections), self._problems)
