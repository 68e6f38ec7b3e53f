"""`python -m loadtests.bench.workers.load`: callers and a model server in one process, told over stdin what to do.

It writes the URL of its model server as a line of JSON. For each order that it reads, a line of JSON too, it measures and writes
what it found. It ends when stdin does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import uvloop

from loadtests.bench.sidebyside.client import requests
from loadtests.bench.sidebyside.closed import Closed
from loadtests.bench.sidebyside.fake import fake


@dataclass(frozen=True)
class Order:
    """One measurement in a closed loop, which begins `at` a moment of time.monotonic(), for all processes the same one."""

    url: str
    headers: Mapping[str, str]
    tokens: int
    stream: bool
    connections: int
    at: float
    warm: float
    seconds: float


async def carry_out(order: Order) -> dict[str, object]:
    """Measure: answers a second in each part, how many were wrong, and what was wrong with the first of them."""
    asked = requests(order.url, order.headers, order.tokens, stream=order.stream)
    gc.collect()
    gc.disable()
    try:
        await asyncio.sleep(order.at - time.monotonic())
        rates = await Closed(order.url, asked, order.warm, order.seconds).run(order.connections)
    finally:
        gc.enable()
    return {"per_second": rates.per_second, "failed": rates.problems.count, "problem": rates.problems.first}


async def main() -> None:
    """Serve, and carry out orders."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with fake() as upstream:
        _say({"url": upstream.url})
        while line := await reader.readline():
            _say(await carry_out(Order(**json.loads(line))))


def _say(said: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
