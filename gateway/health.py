"""Can this gateway answer? Asked by load balancers, so cheap and never older than `_FRESH_SECONDS`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.degraded import PARTS, Part
from gateway.pool import Pool
from gateway.routing import Catalogue
from gateway.upstream import Upstream

_FRESH_SECONDS = 2.0
_TABLES = tuple(f"{name}_revision" for name in ("auth", "ledger"))  # each lineage of tables has one

State = Literal["ok", "down"]
Status = Literal["ok", "degraded", "unavailable", "stopping"]


@dataclass(frozen=True)
class Readiness:
    """Whether requests should come here, and the state of each part by name."""

    status: Status
    parts: dict[str, State]

    @property
    def ready(self) -> bool:
        """Whether it can serve, perhaps not everything."""
        return self.status in ("ok", "degraded")


class Health:
    """The state of the parts: the database, Redis if there is one, and for each model whether a target of it answers.

    What the fail policy goes on without does not make a gateway unready: all of an installation lose their database at the same
    moment, and a balancer would have nobody left. A database that answers but has no tables is no outage, and nothing goes on.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        catalogue: Catalogue,
        upstream: Upstream,
        clock: Callable[[], float] = time.monotonic,
        degraded: Callable[[Part], bool] = lambda _: False,
        stopping: Callable[[], bool] = lambda: False,
        redis: Literal["none", "degrade", "refuse"] = "none",
    ) -> None:
        """`degraded` says whether a part is, `stopping` whether the process is; `redis` what happens without one."""
        self._degraded, self._stopping, self._redis = degraded, stopping, redis
        self._engine, self._catalogue, self._upstream, self._clock = engine, catalogue, upstream, clock
        self._asking = asyncio.Lock()
        self._asked = float("-inf")
        self._tables = True
        self._parts: dict[str, bool] = {}

    async def readiness(self) -> Readiness:
        """Whether this gateway should be asked; parts are not looked at while it stops."""
        if self._stopping():
            return Readiness("stopping", {})
        parts = await self.parts()
        states: dict[str, State] = {name: "ok" if up else "down" for name, up in parts.items()}
        models = [up for name, up in parts.items() if name.startswith("model ")]
        refuses = self._redis == "refuse" and not parts.get("redis", True)
        if not any(models) or refuses or not self._tables:
            return Readiness("unavailable", states)
        return Readiness("ok" if all(parts.values()) else "degraded", states)

    async def parts(self) -> dict[str, bool]:
        """Each part by name, up or not."""
        async with self._asking:
            if self._clock() - self._asked > _FRESH_SECONDS:
                self._parts = {"database": await self._database(), **await self._models()}
                self._asked = self._clock()
        redis = {} if self._redis == "none" else {"redis": not self._degraded("limits")}
        return {**self._parts, **redis}

    def notes(self) -> dict[str, str]:
        """What is wrong without standing in the way of answers: degraded parts, and replicas whose metrics cannot be used."""
        degraded: dict[str, str] = {
            part: "works without what it depends on" for part in PARTS if part != "metrics" and self._degraded(part)
        }
        if not self._tables:
            degraded["database"] = (
                "it answers, but has no tables of ours: state.database_url names another one, or they are gone"
            )
        return degraded | {
            f"metrics of {pool.name}/{replica.index}": replica.load.problem
            for pool in self._catalogue.pools.values()
            for replica in pool.replicas
            if replica.load.problem
        }

    async def _database(self) -> bool:
        try:
            async with asyncio.timeout(_FRESH_SECONDS), self._engine.connect() as connection:
                self._tables = await connection.run_sync(_has_tables)
        except (SQLAlchemyError, OSError, TimeoutError):
            self._tables = True  # nobody knows
            return False
        return self._tables

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


def _has_tables(connection: Connection) -> bool:
    return all(inspect(connection).has_table(table) for table in _TABLES)
