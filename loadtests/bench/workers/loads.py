"""Several processes of callers, which measure at the same time, and whose rates are added up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.bench.sidebyside import stores
from loadtests.bench.sidebyside.closed import Problems
from loadtests.bench.sidebyside.rivals import ROOT
from loadtests.bench.workers.load import Order

_START_SECONDS = 30.0
_END_SECONDS = 10.0
_LINE_BYTES = 2**20


class LoadEnded(Exception):
    """A process of callers ended before it was told to; what it said stands on stderr."""


@dataclass
class Together:
    """Answers a second in each part, of all processes together, and what went wrong."""

    per_second: list[float]
    problems: Problems


class Load:
    """One process; `url` is that of its model server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process, self.pid = process, process.pid
        self.url = ""

    async def begin(self) -> None:
        """Wait until its model server answers."""
        async with asyncio.timeout(_START_SECONDS):
            self.url = (await self._heard())["url"]

    async def measure(self, order: Order) -> dict[str, Any]:
        """Carry out an order."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        return await self._heard()

    async def _heard(self) -> dict[str, Any]:
        line = await self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            raise LoadEnded(f"a process of callers ended with exit code {await self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said

    async def end(self) -> None:
        """Let it end, or end it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def loads(cores: Sequence[int]) -> AsyncIterator[list[Load]]:
    """A process on each of these cores."""
    made: list[Load] = []
    try:
        for core in cores:
            with stores.on_core(core):
                pipe = asyncio.subprocess.PIPE
                command = (sys.executable, "-m", "loadtests.bench.workers.load")
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=_LINE_BYTES, start_new_session=True
                )
                made.append(Load(process))
        await asyncio.gather(*(load.begin() for load in made))
        yield made
    finally:
        await asyncio.gather(*(load.end() for load in made))


def shares(connections: int, processes: int) -> list[int]:
    """So many connections over so many processes, as evenly as can be."""
    least, more = divmod(connections, processes)
    return [least + (number < more) for number in range(processes)]


def together(found: Sequence[dict[str, Any]]) -> Together:
    """The rates of processes that measured at the same time, part by part; a process with fewer parts has its mean in each."""
    problems = Problems()
    for each in found:
        problems.count += each["failed"]
        problems.first = problems.first or each["problem"]
    parts = [list(map(float, each["per_second"])) for each in found]
    most = max(len(each) for each in parts)
    even = [each if len(each) == most else [sum(each) / len(each)] * most for each in parts]
    return Together([sum(rates) for rates in zip(*even, strict=True)], problems)
