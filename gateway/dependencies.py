"""Do the database and Redis answer? Asked every few seconds by each worker, whether requests need them or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

if TYPE_CHECKING:
    from redis.asyncio import Redis

_EVERY_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 2.0


class Dependencies:
    """What was heard of each, by its name."""

    def __init__(self, engine: AsyncEngine, redis: Redis | None) -> None:
        """`redis` is None where none is configured."""
        self._engine, self._redis = engine, redis
        self._up: dict[str, bool] = dict.fromkeys(("database", "redis") if redis is not None else ("database",), True)

    @property
    def names(self) -> tuple[str, ...]:
        """What there is."""
        return tuple(self._up)

    def up(self, name: str) -> bool:
        """Whether it answered when it was asked last."""
        return self._up[name]

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(_EVERY_SECONDS)

    async def ask(self) -> None:
        """Ask each of them once."""
        self._up["database"] = await self._database()
        if self._redis is not None:
            self._up["redis"] = await self._answers(self._redis)

    async def _database(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True

    async def _answers(self, redis: Redis) -> bool:
        from redis.exceptions import RedisError  # where there is a Redis, its client is there

        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True
