"""What is measured, and in which order: each number of workers in turn, and once more in the mirrored order.

A gateway is started for its turn alone, warmed by answers of both forms, and ended after it: two installations on one database
would not leave each other alone.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from loadtests.bench.processor import between, families, spent
from loadtests.bench.sidebyside.servers import Contestant, NotStarted, Server, start
from loadtests.bench.sidebyside.turns import mirrored
from loadtests.bench.workers.cores import Cores
from loadtests.bench.workers.load import Order
from loadtests.bench.workers.loads import Load, shares, together

FORMS = {"plain": False, "stream": True}
TOKENS = 16
_WORKERS = re.compile(r"^passerelle_workers(?:\{[^}]*\})? (\S+)", re.MULTILINE)
_AHEAD_SECONDS = 0.3  # from an order to its beginning: every process has read it by then
_ALL_SECONDS = 120.0
_SETTLED_SECONDS = 1.0  # a worker that shows its figures accepts connections soon after


@dataclass(frozen=True)
class Plan:
    """Seconds of each measurement, of what comes before it and does not count, and of the answers that warm a new gateway."""

    workers: Sequence[int]
    seconds: float = 5.0
    warm: float = 1.0
    rehearsal_seconds: float = 3.0
    connections_per_worker: int = 16


@dataclass
class Form:
    """Plain or streamed answers by one number of workers: answers a second, and shares of cores (1 is all of a core)."""

    per_second: list[float] = field(default_factory=list)
    gateway: list[float] = field(default_factory=list)  # of the gateway's cores
    callers: list[float] = field(default_factory=list)  # of all cores of callers...
    busiest: list[float] = field(default_factory=list)  # ... and of the busiest process of them
    stores: list[float] = field(default_factory=list)  # missing where they are servers of somebody else
    failed: int = 0


Measured = dict[int, dict[str, Form]]


@asynccontextmanager
async def gateway(contestant: Contestant, workers: int, cores: Sequence[int]) -> AsyncIterator[Server]:
    """A gateway on its cores, once all its workers are there. Raises NotStarted."""
    server = start(contestant)
    try:
        await server.ready()
        server.pin(*cores)
        await _all_there(server, workers)
        server.pin(*cores)
        yield server
    finally:
        await asyncio.to_thread(server.close)


async def _all_there(server: Server, workers: int) -> None:
    """The first one answers before the others are started, and would take every connection."""
    until, there = time.monotonic() + _ALL_SECONDS, 0.0
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until:
            async with session.get(f"{server.contestant.url}/metrics") as answer:
                shown = _WORKERS.search(await answer.text())
            if (there := float(shown[1]) if shown else 0.0) >= workers:
                await asyncio.sleep(_SETTLED_SECONDS)
                return
            await asyncio.sleep(0.2)  # figures have no event
    raise NotStarted(f"{there:g} of {workers} workers are there after {_ALL_SECONDS:g} s; they said: {server.said()}")


class Turn:
    """One number of workers: its gateway, those who call it, and who else is watched."""

    def __init__(
        self, server: Server, workers: int, loads: Sequence[Load], cores: Cores, stores: Collection[int]
    ) -> None:
        self._server, self._workers, self._loads = server, workers, loads
        self._cores, self._stores = cores, stores

    async def measure(self, form: str, warm: float, seconds: float, connections: int) -> Form:
        """Ask over so many connections, by all processes of callers at the same time."""
        contestant, at = self._server.contestant, time.monotonic() + _AHEAD_SECONDS
        counts = shares(connections, len(self._loads))
        asked = [
            load.measure(Order(contestant.url, contestant.headers, TOKENS, FORMS[form], count, at, warm, seconds))
            for load, count in zip(self._loads, counts, strict=True)
            if count
        ]
        watching = asyncio.create_task(self._watch(at + warm, seconds))
        found = together(await asyncio.gather(*asked))
        seen = await watching
        return Form(found.per_second, **seen, failed=self._told(form, found.problems.count, found.problems.first))

    def _told(self, form: str, failed: int, problem: str) -> int:
        if failed:
            sys.stderr.write(f"{self._workers} workers, {form}: {failed} answers were wrong, the first: {problem}\n")
        return failed

    async def _watch(self, begin: float, seconds: float) -> dict[str, list[float]]:
        """Who had how much of the processor."""
        await asyncio.sleep(begin - time.monotonic())
        groups = self._groups()
        before, began = {name: spent(pids) for name, pids in groups.items()}, time.monotonic()
        await asyncio.sleep(seconds)
        after, took = {name: spent(pids) for name, pids in groups.items()}, time.monotonic() - began
        each = [(after["callers"].get(pid, 0.0) - had) / took for pid, had in before["callers"].items()]
        share = {name: between(before[name], after[name]) / took for name in groups}
        cores = self._cores
        return {
            "gateway": [share["gateway"] / len(cores.of(self._workers))],
            "callers": [share["callers"] / len(set(cores.callers))],
            "busiest": [max(each)],
            "stores": [share["stores"] / len(cores.stores)] if groups["stores"] else [],
        }

    def _groups(self) -> Mapping[str, list[int]]:
        callers = [load.pid for load in self._loads]
        return {"gateway": [*self._server.processes()], "callers": callers, "stores": [*families(self._stores)]}


async def measure(
    plan: Plan,
    cores: Cores,
    running: Sequence[Load],
    stores: Collection[int],
    contestant: Callable[[int, int], Contestant],
) -> Measured:
    """Every number of workers, twice; `contestant` makes the gateway of a turn, from the turn's number and its workers.

    `stores` are the processes of the stores, those that they start apart.
    """
    measured: Measured = {workers: {form: Form() for form in FORMS} for workers in plan.workers}
    for number, workers in enumerate(mirrored(plan.workers)):
        try:
            async with gateway(contestant(number, workers), workers, cores.of(workers)) as server:
                await _turn(Turn(server, workers, running, cores, stores), workers, plan, measured[workers])
        except NotStarted as problem:
            sys.stderr.write(f"{workers} workers are left out: {problem}\n")
    return measured


async def _turn(turn: Turn, workers: int, plan: Plan, measured: Mapping[str, Form]) -> None:
    connections = workers * plan.connections_per_worker
    for form in FORMS:
        measured[form].failed += (await turn.measure(form, 0.0, plan.rehearsal_seconds, connections)).failed
    for form in FORMS:
        found = await turn.measure(form, plan.warm, plan.seconds, connections)
        add(measured[form], found)
        rate = sum(found.per_second) / len(found.per_second)
        sys.stderr.write(
            f"{workers} workers, {form}: {rate:.0f} answers/s, gateway {found.gateway[0]:.0%} busy, "
            f"callers at most {found.busiest[0]:.0%}\n"
        )


def add(to: Form, found: Form) -> None:
    """Take in what another turn found."""
    for name, values in vars(found).items():
        mine: Any = getattr(to, name)
        setattr(to, name, mine + values)
