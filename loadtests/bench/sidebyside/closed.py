"""What a server does at most: so many connections, each asking its next question when it has the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loadtests.bench.sidebyside.client import Caller, connect

SLICES = 3  # of a measurement: their spread tells how steady it was
_PATIENCE_SECONDS = 30.0  # beside the measurement itself, for the first answers and the last


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
    """Answers a second in each slice that had any, and what went wrong."""

    per_second: list[float]
    problems: Problems = field(default_factory=Problems)


def rates(began: float, ended: Sequence[float], length: float) -> list[float]:
    """Answers a second in each of SLICES slices of `length` seconds, from when the answers ended, in order.

    A slice's answers are divided by the time from the last one before them to their own last: where many come at once, and then
    none for a while, it makes no difference which of them a boundary happens to lie between.
    """
    found, before = [], began
    for number in range(SLICES):
        start, stop = (began + length * place for place in (number, number + 1))
        if inside := [at for at in ended if start < at <= stop]:
            found.append(len(inside) / (inside[-1] - before))
            before = inside[-1]
    return found or [0.0]


class Closed:
    """One measurement. What counts begins after `warm` seconds, and not before there was an answer for each connection."""

    def __init__(self, url: str, requests: Iterator[bytes], warm: float, seconds: float) -> None:
        self._url, self._requests = url, requests
        self._warm, self._slice = warm, seconds / SLICES
        self._problems = Problems()
        self._ended: list[float] = []
        self._warm_until = self._from = 0.0
        self._until = float("inf")
        self._unheard = self._busy = 0
        self._idle = asyncio.Event()

    def _done(self, caller: Caller, problem: str) -> None:
        now = time.perf_counter()
        self._unheard -= 1
        if problem:
            self._problems.add(problem)
        elif self._from:
            self._ended.append(now)
        if not self._from and self._unheard <= 0 and now >= self._warm_until:
            self._from, self._until = now, now + self._slice * SLICES
        if now < self._until and not caller.lost:
            caller.ask(next(self._requests))
            return
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    async def run(self, connections: int) -> Rates:
        """Measure; ends when the last answer is there."""
        callers = [await connect(self._url, self._done) for _ in range(connections)]
        self._warm_until = time.perf_counter() + self._warm
        self._unheard = self._busy = connections
        for caller in callers:
            caller.ask(next(self._requests))
        try:
            await asyncio.wait_for(self._idle.wait(), self._warm + self._slice * SLICES + _PATIENCE_SECONDS)
        except TimeoutError:
            self._problems.add(f"{self._busy} answers had not come after {_PATIENCE_SECONDS:g} s")
        for caller in callers:
            caller.transport.abort()
        return Rates(rates(self._from, self._ended, self._slice), self._problems)
