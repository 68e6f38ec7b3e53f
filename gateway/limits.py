"""How many requests a caller may make: a token bucket a caller, refilled evenly over the minute.

The bucket in memory and the Lua script on Redis are twins: one atomic step, the same arithmetic, the same tests. Times are
seconds; a bucket of `limit` requests refills at `limit / 60` a second.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import RateLimited

log = structlog.get_logger()

_CALLERS = 100_000
_REDIS_SECONDS = 0.25

# KEYS[1] the caller's bucket; ARGV[1] its size. Redis's own clock is used: the workers' clocks may differ.
_TAKE = """
local limit = tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local bucket = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = tonumber(bucket[1]) or limit
local at = tonumber(bucket[2]) or now
left = math.min(limit, left + math.max(0, now - at) * limit / 60)
local allowed = 0
if left >= 1 then left = left - 1; allowed = 1 end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], 61)
return {allowed, tostring(left)}
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after a request: `left` whole requests, the bucket full again in `reset` seconds."""

    limit: int
    left: float
    allowed: bool
    degraded: bool = False

    def headers(self) -> dict[str, str]:
        """The headers OpenAI sends (API reference, "Rate limits"), and `retry-after` on a refusal."""
        headers = {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(int(self.left)),
            "x-ratelimit-reset-requests": f"{max(0.0, (self.limit - self.left) * 60 / self.limit):.3f}s",
        }
        if self.degraded:
            headers["x-passerelle-degraded"] = "limits"
        if not self.allowed:
            headers["retry-after"] = str(max(1, math.ceil((1 - self.left) * 60 / self.limit)))
        return headers

    def require(self) -> None:
        """Raise RateLimited unless the request is allowed."""
        if not self.allowed:
            raise RateLimited(f"More than {self.limit} requests a minute: wait and try again.", headers=self.headers())


class Limiter(Protocol):
    """Takes one request from a caller's bucket."""

    async def take(self, caller: str, limit: int) -> Standing:
        """One atomic step; never raises for a dependency that is down."""


class MemoryLimiter:
    """Buckets of this process. The fullest-known ones are forgotten first when there are too many."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, caller: str, limit: int) -> Standing:
        """See `Limiter`."""
        now = self._now()
        left, at = self._buckets.pop(caller, (float(limit), now))
        left = min(float(limit), left + max(0.0, now - at) * limit / 60)
        allowed = left >= 1
        left -= allowed
        self._buckets[caller] = (left, now)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        return Standing(limit, left, allowed)


class RedisLimiter:
    """Buckets shared by every worker. While Redis is away each worker counts its own share, and says so."""

    def __init__(self, redis: Redis, *, workers: int) -> None:
        self._take = redis.register_script(_TAKE)
        self._workers = workers
        self._own = MemoryLimiter()

    async def take(self, caller: str, limit: int) -> Standing:
        """See `Limiter`."""
        try:
            allowed, left = await self._take(keys=[f"passerelle:rpm:{caller}"], args=[limit])
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("limits_degraded", reason=type(error).__name__)
            share = await self._own.take(caller, max(1, limit // self._workers))
            return Standing(share.limit, share.left, share.allowed, degraded=True)
        return Standing(limit, float(left), bool(allowed))


def limiter(redis_url: str | None, *, workers: int) -> tuple[Limiter, Redis | None]:
    """The limiter for a configuration, and the Redis client to close at the end."""
    if redis_url is None:
        return MemoryLimiter(), None
    redis = Redis.from_url(redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
    return RedisLimiter(redis, workers=workers), redis
