"""Replicas are asked every so often whether they serve: no user's request has to find out that one died without traffic."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from gateway.pool import Pool, Replica

log = structlog.get_logger()

_JITTER: Final = 0.25  # of the time between two probes, lest several gateways fall into step


async def watch(
    pool: Pool, serves: Callable[[Replica], Awaitable[bool]], seconds: float, chance: random.Random
) -> None:
    """Tell the breakers of a pool's replicas what their probes say, for ever; `serves` asks one and never raises.

    The first probes are spread over `seconds`.
    """
    async with asyncio.TaskGroup() as group:
        for replica in pool.replicas:
            group.create_task(_probe(pool.name, replica, serves, seconds, chance))


async def _probe(
    target: str, replica: Replica, serves: Callable[[Replica], Awaitable[bool]], seconds: float, chance: random.Random
) -> None:
    await asyncio.sleep(chance.uniform(0, seconds))
    while True:
        was = replica.breaker.down()
        replica.breaker.probed(up=await serves(replica))
        if (down := replica.breaker.down()) is not was:
            told = log.warning if down else log.info
            told("replica_down" if down else "replica_up", target=target, replica=replica.index)
        await asyncio.sleep(seconds * chance.uniform(1 - _JITTER, 1 + _JITTER))
