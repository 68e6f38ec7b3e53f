"""What is measured, and in which order: every contestant in turn, and once more in the mirrored order.

First what each does at most (`closed`). Half of what the slowest does is then the rate at which all are asked for the time their
answers take (`arrivals`).
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from loadtests.bench.sidebyside.arrivals import Arrivals, Times
from loadtests.bench.sidebyside.client import requests
from loadtests.bench.sidebyside.closed import Closed, Problems
from loadtests.bench.sidebyside.fake import Fake
from loadtests.bench.sidebyside.figures import HEADLINE, Cell, Measured, slowest
from loadtests.bench.sidebyside.servers import Server

RATE_SHARE = 0.5  # of the slowest one's capacity
_CONNECTIONS = 256  # at most, at the fixed rate
_Turn = TypeVar("_Turn")


@dataclass(frozen=True)
class Plan:
    """What is measured. `warm` comes before every measurement and does not count; all times are seconds."""

    tokens: Sequence[int] = (16, 128)
    connections: Sequence[int] = (1, 16, 64, 256)
    seconds: float = 3.0
    warm: float = 1.0
    arrivals_seconds: float = 15.0
    rehearsal_seconds: float = 3.0  # of each form, before anything is measured
    streams_at_rate: bool = True  # also for streams, whose tokens come...
    pace: float = 0.01  # ... with so much time between two

    def cells(self) -> list[Cell]:
        """What the closed loop is run with."""
        return [
            Cell(stream, tokens, connections)
            for stream, tokens, connections in itertools.product((False, True), self.tokens, self.connections)
        ]

    def minutes(self, contestants: int) -> float:
        """About how long so many take."""
        most = len(self.cells()) * (self.warm + self.seconds)
        at_rate = (self.warm * 2 + self.arrivals_seconds) * (2 if self.streams_at_rate else 1)
        return 2 * contestants * (most + at_rate) / 60


QUICK = Plan(
    tokens=(16,),
    connections=(16,),
    seconds=0.45,
    warm=0.15,
    arrivals_seconds=1.3,
    rehearsal_seconds=0.25,
    streams_at_rate=False,
)


def mirrored(names: Sequence[_Turn]) -> list[_Turn]:
    """Every name in turn, and back again."""
    return [*names, *reversed(names)]


@contextlib.contextmanager
def _turn(server: Server) -> Iterator[None]:
    """Only this server runs, and no garbage is collected by the callers."""
    server.go()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        server.halt()


def _complain(name: str, what: str, problems: Problems, measured: Measured) -> None:
    measured.failed += problems.count
    if problems.count:
        sys.stderr.write(f"{name}, {what}: {problems.count} answers were wrong, the first: {problems.first}\n")


async def _rehearsed(server: Server, plan: Plan) -> bool:
    """Whether it answers rightly; the first requests import and compile what the others need."""
    at = server.contestant
    with _turn(server):
        for stream in (False, True):
            asked = requests(at.url, at.headers, HEADLINE[0], stream=stream)
            problems = (await Closed(at.url, asked, 0.0, plan.rehearsal_seconds).run(HEADLINE[1])).problems
            if problems.count:
                sys.stderr.write(
                    f"{at.name} is left out: {problems.count} wrong answers, the first: {problems.first}\n"
                )
                return False
    return True


async def _most(server: Server, plan: Plan, measured: Measured) -> None:
    at = server.contestant
    for cell in plan.cells():
        asked = requests(at.url, at.headers, cell.tokens, stream=cell.stream)
        rates = await Closed(at.url, asked, plan.warm, plan.seconds).run(cell.connections)
        measured.rates.setdefault(cell, []).extend(rates.per_second)
        _complain(at.name, cell.name, rates.problems, measured)
        sys.stderr.write(f"{at.name}, {cell.name}: {sum(rates.per_second) / len(rates.per_second):.0f} answers/s\n")
    measured.rss.append(server.rss_mb())


async def _at_rate(server: Server, plan: Plan, rate: float, *, stream: bool) -> Times:
    at = server.contestant
    asked = requests(at.url, at.headers, HEADLINE[0], stream=stream)
    await Closed(at.url, asked, 0.0, plan.warm).run(1)  # what was halted has to find its feet
    return await Arrivals(at.url, asked, rate=rate, connections=_CONNECTIONS).run(plan.warm, plan.arrivals_seconds)


def _keep(times: Times, measured: Measured, *, stream: bool) -> None:
    if stream:
        measured.first += [1000 * value for value in times.first]
        measured.inter_token += [1000 * value / (HEADLINE[0] - 1) for value in times.rest]
    else:
        measured.plain += [1000 * value for value in times.whole]


async def measure(servers: Sequence[Server], fake: Fake, plan: Plan) -> tuple[dict[str, Measured], dict[str, float]]:
    """Everything, by contestant, and the rates of the arrivals; the servers are ready, and halted."""
    by_name = {server.contestant.name: server for server in servers if await _rehearsed(server, plan)}
    measured = {name: Measured() for name in by_name}
    sys.stderr.write(f"measuring: about {plan.minutes(len(by_name)):.0f} minutes\n")
    for name in mirrored(list(by_name)):
        with _turn(by_name[name]):
            await _most(by_name[name], plan, measured[name])
    ways = {"plain": False} | ({"stream": True} if plan.streams_at_rate else {})
    rate = {way: RATE_SHARE * slowest(measured, stream=stream) for way, stream in ways.items()}
    for name in mirrored(list(by_name)):
        with _turn(by_name[name]):
            for way, stream in ways.items():
                fake.pace = plan.pace if stream else 0.0
                times = await _at_rate(by_name[name], plan, rate[way], stream=stream)
                _complain(name, f"{way} at {rate[way]:.0f}/s", times.problems, measured[name])
                _keep(times, measured[name], stream=stream)
    return measured, rate
