"""Time to first token by how a replica is chosen: ours against round robin and random, over replicas of unequal speed.

All ways get the same requests at the same moments, each over four replicas of its own, side by side in one process. Several
gateways share the replicas, as the workers of one machine do: none of them sees the requests of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

from gateway import load
from gateway.pool import Call, Pool, Replica, pool
from gateway.settings import Routing, Times
from gateway.target import Target
from gateway.upstream import Upstream
from loadtests.bench import replica as fake

_OURS = "two choices"
_WAYS = (_OURS, "two choices, own requests alone", "round robin", "random")
_TIMES = Times(connect=30, first_content=600, idle=600, total=3600)
_MEAN_TOKENS = 20


@dataclass(frozen=True)
class Arrival:
    """A request: when it comes (seconds from the start), to which gateway, and how long its answer is (tokens)."""

    at: float
    gateway: int
    tokens: int


def arrivals(requests: int, rate: float, gateways: int, chance: random.Random) -> list[Arrival]:
    """So many requests, `rate` a second at moments independent of each other, their answers of very different lengths."""
    moments = itertools.accumulate(chance.expovariate(rate) for _ in range(requests))
    lengths = (1 + int(chance.expovariate(1 / _MEAN_TOKENS)) for _ in range(requests))
    return [Arrival(at, chance.randrange(gateways), tokens) for at, tokens in zip(moments, lengths, strict=True)]


def chooser(way: str, replicas: Pool, chance: random.Random) -> Callable[[], Replica]:
    """How one gateway chooses the replica of its next request."""
    if way == "round robin":
        turns = itertools.cycle(replicas.replicas)
        return lambda: next(turns)
    if way == "random":
        return lambda: chance.choice(replicas.replicas)

    def ours() -> Replica:
        if (chosen := replicas.choose()) is None:
            raise RuntimeError("a fake replica failed")
        return chosen

    return ours


async def first_token(upstream: Upstream, chosen: Replica, tokens: int) -> float:
    """Ask for an answer and read it to its end; gives the seconds to its first text."""
    started, first = time.monotonic(), 0.0
    with Call(chosen):
        body = json.dumps({"max_tokens": tokens}).encode()
        async with upstream.stream(f"{chosen.url}/chat/completions", None, body, "bench") as stream:
            while await stream.parts() is not None:
                first = first or time.monotonic() - started
    return first


async def seconds(way: str, schedule: Sequence[Arrival], options: argparse.Namespace) -> list[float]:
    """The time to first token of every request of the schedule, the replicas chosen in one way."""
    routing, chance = Routing(scrape_seconds=options.scrape_seconds), random.Random(way)  # noqa: S311  # a benchmark
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(fake.served(fake.Replica(slow, options.slots))) for slow in options.slowness
        ]
        upstream = await stack.enter_async_context(Upstream(_TIMES))
        target = Target.model_validate({"kind": "vllm", "urls": [each.url for each in replicas], "model": "m"})
        pools = [pool(way, target, routing, chance=chance, clock=time.monotonic) for _ in range(options.gateways)]
        choose = [chooser(way, each, chance) for each in pools]
        read = partial(upstream.metrics, within=routing.scrape_seconds)
        watching = [
            asyncio.create_task(
                load.watch([(each.url, each.load) for each in own.replicas], read, routing.scrape_seconds)
            )
            for own in pools
            if way == _OURS
        ]
        start = time.monotonic()

        async def one(arrival: Arrival) -> float:
            await asyncio.sleep(start + arrival.at - time.monotonic())
            return await first_token(upstream, choose[arrival.gateway](), arrival.tokens)

        found = await asyncio.gather(*(one(arrival) for arrival in schedule))
        for task in watching:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    return list(found)


def table(rate: float, found: dict[str, list[float]]) -> str:
    """One line a way: p50, p99 and how many times our p99 that is. Milliseconds."""
    ours = quantiles(found[_OURS], n=100)[98]
    lines = []
    for way, times in found.items():
        cuts = quantiles(times, n=100)
        lines.append(f"| {rate:g} | {way} | {cuts[49] * 1000:.0f} | {cuts[98] * 1000:.0f} | {cuts[98] / ours:.2f} |\n")
    return "".join(lines)


async def run(options: argparse.Namespace) -> None:
    """Measure at every rate and print the table as it grows."""
    sys.stdout.write(
        "| requests/s | chosen by | p50 TTFT, ms | p99 TTFT, ms | p99 to ours |\n|---:|---|---:|---:|---:|\n"
    )
    for rate in options.rates:
        schedule = arrivals(options.requests, rate, options.gateways, random.Random(options.seed))  # noqa: S311
        measured = (seconds(way, schedule, options) for way in _WAYS)
        found = dict(zip(_WAYS, await asyncio.gather(*measured), strict=True))
        sys.stdout.write(table(rate, found))
        sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """The options; the defaults are the run that docs/routing.md shows."""
    made = argparse.ArgumentParser(
        prog="python -m loadtests.bench.balancing",
        description=__doc__,
        epilog="example: python -m loadtests.bench.balancing --rates 20 --slowness 1 1 1 1",
    )
    made.add_argument("--rates", type=float, nargs="+", default=[28.0, 56.0], metavar="R", help="requests a second")
    made.add_argument("--requests", type=int, default=1500, metavar="N", help="requests at each rate")
    made.add_argument("--gateways", type=int, default=4, metavar="N", help="gateways that share the replicas")
    made.add_argument(
        "--slowness",
        type=float,
        nargs="+",
        default=[1, 1, 2, 4],
        metavar="X",
        help="a replica each: times a fast one's",
    )
    made.add_argument("--slots", type=int, default=8, metavar="N", help="answers a replica computes at once")
    made.add_argument("--scrape-seconds", type=float, default=0.1, metavar="S", help="how often metrics are read")
    made.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments and lengths of the requests")
    return made


if __name__ == "__main__":
    asyncio.run(run(parser().parse_args()))
