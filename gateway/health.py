"""Can this gateway answer? Asked by load balancers, so cheap and never older than `_FRESH_SECONDS`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.degraded import PARTS, Part
from gateway.pool import Pool
from gateway.routing import Catalogue
from gateway.upstream import Upstream

_FRESH_SECONDS = 2.0


class Health:
    """The state of the parts: the database, and for each model whether a target of it answers."""

    def __init__(
        self,
        engine: AsyncEngine,
        catalogue: Catalogue,
        upstream: Upstream,
        clock: Callable[[], float] = time.monotonic,
        degraded: Callable[[Part], bool] = lambda _: False,
    ) -> None:
        """`degraded` says whether a part is."""
        self._degraded = degraded
        self._engine, self._catalogue, self._upstream, self._clock = engine, catalogue, upstream, clock
        self._asking = asyncio.Lock()
        self._asked = float("-inf")
        self._parts: dict[str, bool] = {}

    async def parts(self) -> dict[str, bool]:
        """Each part by name, up or not."""
        async with self._asking:
            if self._clock() - self._asked > _FRESH_SECONDS:
                self._parts = {"database": await self._database(), **await self._models()}
                self._asked = self._clock()
        return self._parts

    def notes(self) -> dict[str, str]:
        """What is wrong without standing in the way of answers: degraded parts, and replicas whose metrics cannot be used."""
        degraded = {
            part: "works without what it depends on" for part in PARTS if part != "metrics" and self._degraded(part)
        }
        return degraded | {
            f"metrics of {pool.name}/{replica.index}": replica.load.problem
            for pool in self._catalogue.pools.values()
            for replica in pool.replicas
            if replica.load.problem
        }

    async def _database(self) -> bool:
        try:
            async with asyncio.timeout(_FRESH_SECONDS), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True

    async def _models(self) -> dict[str, bool]:
        # All of it is taken now: while the servers are asked the catalogue may be replaced.
        published = {name: self._catalogue.targets(name, may_leave=True) for name in self._catalogue.names()}
        pools = list(self._catalogue.pools.values())
        up = dict(zip((pool.name for pool in pools), await asyncio.gather(*map(self._pool, pools)), strict=True))
        return {f"model {name}": any(up[pool.name] for pool in targets) for name, targets in published.items()}

    async def _pool(self, pool: Pool) -> bool:
        # An outside target is not asked: it would count against its rate limits, and the fallback is not ours to watch.
        if pool.target.outside:
            return True
        key, model = pool.key, pool.target.model
        answers = await asyncio.gather(*(self._upstream.serves(replica.url, key, model) for replica in pool.replicas))
        return any(answer.up for answer in answers)
