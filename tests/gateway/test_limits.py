import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.errors import RateLimited
from gateway.limits import Limiter, MemoryLimiter, RedisLimiter, Standing, limiter


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[Limiter]:
    """Both limiters, on their own clocks: too little time passes in these tests for a bucket to refill."""
    if request.param == "memory":
        yield MemoryLimiter()
        return
    async with Redis.from_url(request.getfixturevalue("redis_url")) as redis:
        yield RedisLimiter(redis, workers=1)


@pytest.fixture
def caller() -> str:
    return f"acme/{secrets.token_hex(8)}"


async def test_a_caller_gets_the_limit_and_then_nothing(shared: Limiter, caller: str) -> None:
    standings = [await shared.take(caller, 5) for _ in range(7)]
    assert [standing.allowed for standing in standings] == [True] * 5 + [False] * 2
    assert [int(standing.left) for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert not any(standing.degraded for standing in standings)


async def test_callers_do_not_share_a_bucket(shared: Limiter, caller: str) -> None:
    assert (await shared.take(f"{caller}-a", 1)).allowed
    assert (await shared.take(f"{caller}-b", 1)).allowed
    assert not (await shared.take(f"{caller}-a", 1)).allowed


async def test_requests_at_the_same_instant_never_get_more_than_the_limit(shared: Limiter, caller: str) -> None:
    standings = await asyncio.gather(*(shared.take(caller, 10) for _ in range(50)))
    assert sum(standing.allowed for standing in standings) == 10


async def test_a_limit_that_is_lowered_counts_at_once(shared: Limiter, caller: str) -> None:
    await shared.take(caller, 1000)
    assert int((await shared.take(caller, 2)).left) == 1


async def test_a_refused_request_takes_nothing(shared: Limiter, caller: str) -> None:
    lefts = [(await shared.take(caller, 1)).left for _ in range(20)]
    assert all(0 <= left < 1 for left in lefts)
    assert lefts == sorted(lefts)


@pytest.mark.parametrize(
    ("limit", "left", "seconds", "after"),
    [(60, 0.0, 0, 0), (60, 0.0, 5, 4), (60, 20.0, 10, 29), (600, 0.0, 30, 299), (10, 0.0, 30, 4), (60, 59.0, 3600, 59)],
)
async def test_both_buckets_refill_evenly_over_the_minute(
    redis_url: str, caller: str, limit: int, left: float, seconds: int, after: float
) -> None:
    clock = Clock()
    memory = MemoryLimiter(clock)
    for _ in range(limit - int(left)):
        await memory.take(caller, limit)
    clock.now += seconds
    assert (await memory.take(caller, limit)).left == pytest.approx(after)
    async with Redis.from_url(redis_url) as redis:
        now, _ = await redis.time()
        await redis.hset(f"passerelle:rpm:{caller}", mapping={"left": left, "at": now - seconds})
        standing = await RedisLimiter(redis, workers=1).take(caller, limit)
    tolerance = 2 * limit / 60  # Redis's clock runs, and its whole seconds were read
    assert after - 1e-6 <= standing.left <= min(limit - 1, after + tolerance)


@given(
    st.integers(1, 120),
    st.lists(st.floats(0, 90) | st.just(0.0), min_size=1, max_size=200),
    st.floats(1, 180),
)
async def test_no_window_ever_has_more_than_a_full_bucket_and_its_refill(
    limit: int, gaps: list[float], window: float
) -> None:
    clock = Clock()
    memory, passed = MemoryLimiter(clock), []
    for gap in gaps:
        clock.now += gap
        standing = await memory.take("c", limit)
        assert 0 <= standing.left <= limit
        if standing.allowed:
            passed.append(clock.now)
    for start in passed:
        count = sum(start <= at <= start + window for at in passed)
        assert count <= limit + window * limit / 60 + 1e-6


@given(st.integers(1, 120), st.integers(1, 100))
async def test_a_caller_who_keeps_to_the_pace_is_never_refused(limit: int, requests: int) -> None:
    clock = Clock()
    memory = MemoryLimiter(clock)
    for _ in range(requests):
        assert (await memory.take("c", limit)).allowed
        clock.now += 60 / limit + 1e-6


@given(st.integers(1, 600), st.floats(0, 60))
async def test_a_caller_who_waits_as_told_gets_through(limit: int, spent: float) -> None:
    clock = Clock()
    memory = MemoryLimiter(clock)
    for _ in range(limit):
        await memory.take("c", limit)
    clock.now += spent
    while (standing := await memory.take("c", limit)).allowed:
        pass
    clock.now += int(standing.headers()["retry-after"])
    assert (await memory.take("c", limit)).allowed


async def test_a_clock_that_goes_back_neither_fills_nor_empties_a_bucket() -> None:
    clock = Clock()
    memory = MemoryLimiter(clock)
    await memory.take("c", 2)
    clock.now -= 500
    assert (await memory.take("c", 2)).left == 0


async def test_the_memory_of_callers_is_bounded_and_forgets_who_was_away_longest() -> None:
    memory = MemoryLimiter(Clock())
    await memory.take("away", 1)
    await memory.take("back", 1)
    for number in range(99_998):
        await memory.take(str(number), 1)
    assert not (await memory.take("back", 1)).allowed
    await memory.take("one more", 1)
    assert not (await memory.take("back", 1)).allowed
    assert (await memory.take("away", 1)).allowed


@pytest.mark.parametrize(
    ("standing", "headers"),
    [
        (Standing(60, 59, allowed=True), {"remaining-requests": "59", "reset-requests": "1.000s"}),
        (Standing(60, 60, allowed=True), {"remaining-requests": "60", "reset-requests": "0.000s"}),
        (Standing(10, 0.5, allowed=False), {"remaining-requests": "0", "reset-requests": "57.000s", "retry": "3"}),
        (Standing(600, 0.99, allowed=False), {"remaining-requests": "0", "reset-requests": "59.901s", "retry": "1"}),
    ],
)
def test_the_headers_are_those_openai_sends(standing: Standing, headers: dict[str, str]) -> None:
    retry = headers.pop("retry", None)
    expected = {f"x-ratelimit-{name}": value for name, value in headers.items()}
    expected["x-ratelimit-limit-requests"] = str(standing.limit)
    assert standing.headers() == expected | ({"retry-after": retry} if retry else {})


def test_a_refusal_carries_its_headers() -> None:
    Standing(1, 0, allowed=True).require()
    with pytest.raises(RateLimited, match="More than 1 request") as caught:
        Standing(1, 0, allowed=False).require()
    assert caught.value.headers["retry-after"] == "60"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is ours, so nobody listens on it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_without_redis_each_worker_gives_its_share_and_says_so(closed_port: int, caller: str) -> None:
    limits, redis = limiter(f"redis://127.0.0.1:{closed_port}/0", workers=3)
    standings = [await limits.take(caller, 10) for _ in range(4)]
    assert [standing.allowed for standing in standings] == [True, True, True, False]
    assert all(standing.headers()["x-passerelle-degraded"] == "limits" for standing in standings)
    assert (await limits.take("few", 1)).allowed
    assert redis is not None
    await redis.aclose()


async def test_redis_is_asked_only_when_it_is_configured(redis_url: str, caller: str) -> None:
    assert isinstance(limiter(None, workers=2)[0], MemoryLimiter)
    limits, redis = limiter(redis_url, workers=2)
    assert redis is not None
    standing = await limits.take(caller, 10)
    assert (standing.limit, standing.degraded) == (10, False)
    assert 0 < await redis.ttl(f"passerelle:rpm:{caller}") <= 61
    await redis.aclose()
