"""What a server does at most: so many connections, each asking its next question when it has the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from loadtests.bench.sidebyside.client import Caller, connect

SLICES = 3  # of a measurement: their spread tells how steady it was
_DRAIN_SECONDS = 30.0


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
    """Answers a second in each slice, and what went wrong."""

    per_second: list[float]
    problems: Problems = field(default_factory=Problems)


class Closed:
    """One measurement. Answers of the first `warm` seconds do not count."""

    def __init__(self, url: str, requests: Iterator[bytes], warm: float, seconds: float) -> None:
        self._url, self._requests = url, requests
        self._warm, self._slice = warm, seconds / SLICES
        self._counts, self._problems = [0] * SLICES, Problems()
        self._from = self._until = 0.0
        self._busy = 0
        self._idle = asyncio.Event()

    def _done(self, caller: Caller, problem: str) -> None:
        now = time.perf_counter()
        if problem:
            self._problems.add(problem)
        elif self._from <= now < self._until:
            self._counts[min(SLICES - 1, int((now - self._from) / self._slice))] += 1
        if now < self._until and not caller.lost:
            caller.ask(next(self._requests))
            return
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    async def run(self, connections: int) -> Rates:
        """Measure; ends when the last answer is there."""
        callers = [await connect(self._url, self._done) for _ in range(connections)]
        self._from = time.perf_counter() + self._warm
        self._until = self._from + self._slice * SLICES
        self._busy = len(callers)
        for caller in callers:
            caller.ask(next(self._requests))
        try:
            await asyncio.wait_for(self._idle.wait(), self._warm + self._slice * SLICES + _DRAIN_SECONDS)
        except TimeoutError:
            self._problems.add(f"{self._busy} answers had not come {_DRAIN_SECONDS:g} s after the end")
        for caller in callers:
            caller.transport.abort()
        return Rates([count / self._slice for count in self._counts], self._problems)
