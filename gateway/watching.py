"""The tasks that ask the replicas of the present catalogue how busy they are and whether they serve."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from functools import partial
from typing import Self

from gateway import load, probe
from gateway.pool import Pool, Replica
from gateway.routing import Catalogue
from gateway.upstream import Upstream


class Watching:
    """A context in which the replicas are watched."""

    def __init__(self, catalogue: Catalogue, upstream: Upstream) -> None:
        self._catalogue, self._upstream = catalogue, upstream
        self._chance = random.Random()  # noqa: S311  # when a replica is probed: no secret
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [task for pool in self._catalogue.pools.values() for task in self._of(pool)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow(self) -> None:
        """Watch what the catalogue holds now, and nothing else."""
        await self.__aexit__()
        await self.__aenter__()

    def _of(self, pool: Pool) -> Iterator[asyncio.Task[None]]:
        scrape, every = self._catalogue.routing.scrape_seconds, self._catalogue.routing.probe_seconds
        if pool.target.kind == "vllm":  # nobody else has these metrics
            read = partial(self._upstream.metrics, within=scrape)
            loads = [(replica.url, replica.load) for replica in pool.replicas]
            yield asyncio.create_task(load.watch(loads, read, scrape))
        if pool.probed:
            yield asyncio.create_task(probe.watch(pool, partial(self._serves, pool), every, self._chance))

    async def _serves(self, pool: Pool, replica: Replica) -> bool:
        model = pool.target.model
        found = await self._upstream.serves(replica.url, pool.key, model)
        if found.up and model == pool.target.model:  # a server that is down goes on to have the context it had
            replica.context_length = found.context_length
        return found.up
