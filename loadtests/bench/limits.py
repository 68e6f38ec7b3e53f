"""What reserving and settling costs a worker: in this process and on Redis, with one limit and fifteen, alone and 64 at once.

All ways run in turns in one process; what is left of a run is the least of its rounds. Beside them stands a bare PING of the same
Redis by the same client: a round trip cannot be cheaper.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.limits.checks import SCOPES, Check, Measure
from gateway.limits.memory import Limiter, Memory
from gateway.limits.shared import Shared, connect

_EXAMPLE = """example:
  python -m loadtests.bench.limits --redis redis://127.0.0.1:6379/15
  python -m loadtests.bench.limits --requests 2000 --json
"""
_AT_ONCE = 64

Step = Callable[[], Awaitable[object]]


def checks(count: int) -> list[Check]:
    """So many limits, of all scopes and measures in turn, that nobody reaches."""
    every = [(scope, measure) for measure in Measure for scope in SCOPES]
    return [
        Check(scope, "bench", measure, 2**50, 1, "2030-05" if measure is Measure.MONEY_PER_MONTH else "", 0.0, 0)
        for scope, measure in every[:count]
    ]


def step(limiter: Limiter, of: Sequence[Check]) -> Step:
    """One request's way: reserve, and settle."""

    async def once() -> None:
        reservation = await limiter.reserve(of)
        limiter.settle(reservation, [1] * len(of))
        await limiter.settled(reservation)

    return once


async def measure(once: Step, requests: int, at_once: int) -> float:
    """Microseconds a request."""

    async def caller(times: int) -> None:
        for _ in range(times):
            await once()

    began = time.perf_counter()
    await asyncio.gather(*(caller(max(1, requests // at_once)) for _ in range(at_once)))
    return (time.perf_counter() - began) / (max(1, requests // at_once) * at_once) * 1e6


async def run(redis: str | None, requests: int, rounds: int) -> dict[str, float]:
    """The least microseconds a request over the rounds, by the way."""
    memory = Memory()
    steps = {f"memory, {count} limits": step(memory, checks(count)) for count in (1, 15)}
    client = connect(redis) if redis else None
    shared = Shared(client, workers=1, prefix="passerelle-bench") if client else None
    if client is not None and shared is not None:
        steps["Redis, PING"] = client.ping
        steps |= {f"Redis, {count} limits": step(shared, checks(count)) for count in (1, 15)}
    found: dict[str, float] = {}
    for _ in range(rounds):
        for name, once in steps.items():
            for at_once in (1, _AT_ONCE):
                key = f"{name}, {at_once} at once"
                found[key] = min(found.get(key, float("inf")), await measure(once, requests, at_once))
    if shared is not None:
        await shared.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.limits",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--redis", metavar="URL", help="a Redis whose keys passerelle-bench:* may be used; default: none"
    )
    parser.add_argument("--requests", type=int, default=5000, help="in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="figures alone, as JSON")
    options = parser.parse_args(argv)
    found = asyncio.run(run(options.redis, options.requests, options.rounds))
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        return 0
    for name, microseconds in found.items():
        sys.stdout.write(f"{microseconds:8.1f} µs  {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
