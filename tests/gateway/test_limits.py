"""One limiter in this process and one on Redis: the same tests on both."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.limits.checks import Check, Measure, Reservation, Unseeded
from gateway.limits.memory import Limiter, Memory
from gateway.limits.shared import Shared, connect

RPM, TPM, TPD = Measure.REQUESTS_PER_MINUTE, Measure.TOKENS_PER_MINUTE, Measure.TOKENS_PER_DAY
PLACES, MONEY = Measure.CONCURRENT, Measure.MONEY_PER_MONTH


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def check(measure: Measure, limit: int, amount: int = 1, *, name: str = "n", floor: int | None = 0) -> Check:
    window, ends = {TPD: ("2030-05-06", 3600.0), MONEY: ("2030-05", 86_400.0)}.get(measure, ("", 0.0))
    return Check("user", name, measure, limit, amount, window, ends, floor if window else None)


@dataclass
class Workers:
    """As many limiters as there are workers, all on the same counters, and what they told of budgets."""

    make: Callable[["Workers"], Limiter]
    spent: list[tuple[str, int]] = field(default_factory=list)
    made: list[Limiter] = field(default_factory=list)

    def worker(self) -> Limiter:
        self.made.append(self.make(self))
        return self.made[-1]

    def told(self, of: Check, spent: int) -> None:
        self.spent.append((of.name, spent))


@asynccontextmanager
async def on_memory() -> AsyncIterator[Workers]:
    """A process has one; all "workers" are the same."""
    workers = Workers(lambda own: own.made[0] if own.made else Memory(spent=own.told))
    yield workers


@asynccontextmanager
async def on_redis(url: str, lease: float = 30) -> AsyncIterator[Workers]:
    """Each has a client of its own; a prefix keeps tests apart."""
    prefix = secrets.token_hex(6)
    workers = Workers(
        lambda own: Shared(connect(url, seconds=30), workers=4, prefix=prefix, lease=lease, spent=own.told),
    )
    yield workers
    for made in workers.made:
        assert isinstance(made, Shared)
        await made.close()


@pytest.fixture(params=["memory", "redis"])
async def workers(request: pytest.FixtureRequest) -> AsyncIterator[Workers]:
    """Both, on their own clocks: too little time passes in these tests for a bucket to refill."""
    opened = on_memory() if request.param == "memory" else on_redis(request.getfixturevalue("redis_url"))
    async with opened as made:
        yield made


def lefts(reservation: Reservation) -> list[float]:
    return [standing.left for standing in reservation.standings]


def near(left: float) -> Any:
    """A bucket of 1000 refills by 17 a second."""
    return pytest.approx(left, abs=17)


async def ended(limiter: Limiter, reservation: Reservation, *actual: int) -> None:
    limiter.settle(reservation, actual)
    await limiter.settled(reservation)


@pytest.mark.parametrize("measure", list(Measure))
async def test_the_limit_is_given_and_then_nothing(workers: Workers, measure: Measure) -> None:
    made = [await workers.worker().reserve([check(measure, 5)]) for _ in range(7)]
    assert [reservation.refused for reservation in made] == [False] * 5 + [True] * 2
    assert [int(reservation.standings[0].left) for reservation in made] == [4, 3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("measure", list(Measure))
async def test_requests_at_the_same_instant_never_get_more_than_the_limit(workers: Workers, measure: Measure) -> None:
    four = [workers.worker() for _ in range(4)]
    made = await asyncio.gather(*(four[number % 4].reserve([check(measure, 100, 7)]) for number in range(200)))
    assert sum(not reservation.refused for reservation in made) == 100 // 7


async def test_one_limit_that_is_reached_leaves_all_others_as_they_were(workers: Workers) -> None:
    limiter = workers.worker()
    both = [check(RPM, 10), check(TPM, 1000, 400), check(TPD, 900, 400), check(PLACES, 5), check(MONEY, 10_000, 10)]
    for _ in range(2):
        assert not (await limiter.reserve(both)).refused
    for _ in range(3):
        refused = await limiter.reserve(both)
        assert refused.refused
        assert [standing.passed for standing in refused.standings] == [True, False, False, True, True]
    lefts = [int(standing.left) for standing in (await limiter.reserve([check(RPM, 10), check(PLACES, 5)])).standings]
    assert lefts == [7, 2]


async def test_others_have_counters_of_their_own(workers: Workers) -> None:
    limiter = workers.worker()
    for name in "ab":
        assert not (await limiter.reserve([check(PLACES, 1, name=name), check(RPM, 1, name=name)])).refused
    assert (await limiter.reserve([check(PLACES, 1, name="a")])).refused


async def test_what_was_not_used_is_given_back_and_what_was_used_beyond_is_taken(workers: Workers) -> None:
    limiter, other = workers.worker(), workers.worker()
    limits = [check(TPM, 1000, 600), check(TPD, 1000, 600), check(MONEY, 1000, 600), check(PLACES, 1)]
    first = await limiter.reserve(limits)
    assert (await other.reserve(limits)).refused
    await ended(limiter, first, 100, 100, 100, 1)
    second = await other.reserve(limits)
    assert lefts(second) == [near(300), 300, 300, 0]
    await ended(other, second, 950, 950, 950, 1)
    third = await limiter.reserve(limits)
    assert lefts(third) == [near(-50), -50, -50, 1]
    assert third.refused
    assert workers.spent == [("n", 100), ("n", 100), ("n", 1050), ("n", 1050)]


async def test_settling_twice_changes_nothing(workers: Workers) -> None:
    limiter = workers.worker()
    limits = [check(TPM, 1000, 600), check(TPD, 1000, 600), check(PLACES, 3)]
    first = await limiter.reserve(limits)
    await limiter.reserve([check(PLACES, 3)])
    await ended(limiter, first, 100, 100, 1)
    await ended(limiter, first, 100, 100, 1)
    last = await limiter.reserve([check(TPM, 1000), check(TPD, 1000), check(PLACES, 3)])
    assert lefts(last) == [near(899), 899, 1]


async def test_a_limit_that_is_lowered_counts_at_once(workers: Workers) -> None:
    limiter = workers.worker()
    for measure in Measure:
        await limiter.reserve([check(measure, 1000)])
    lefts = [int((await limiter.reserve([check(measure, 2)])).standings[0].left) for measure in Measure]
    assert lefts == [1, 1, 0, 0, 0]


async def test_a_budget_that_nobody_knows_is_not_guessed(workers: Workers) -> None:
    limiter = workers.worker()
    unknown = check(TPD, 1000, 100, floor=None)
    with pytest.raises(Unseeded) as caught:
        await limiter.reserve([check(RPM, 1), unknown])
    assert caught.value.checks == (unknown,)
    made = await workers.worker().reserve([check(RPM, 1), unknown.at_least(850)])
    assert [int(standing.left) for standing in made.standings] == [0, 50]
    assert (await limiter.reserve([unknown])).refused  # known from now on


async def test_what_the_ledger_knows_is_the_least_that_was_spent(workers: Workers) -> None:
    limiter = workers.worker()
    await ended(limiter, await limiter.reserve([check(TPD, 1000, 10)]), 300)
    assert (await limiter.reserve([check(TPD, 1000, 0, floor=200)])).standings[0].spent == 300
    assert (await limiter.reserve([check(TPD, 1000, 0, floor=500)])).standings[0].spent == 500


@pytest.mark.parametrize(
    ("limit", "left", "seconds", "after"),
    [(60, 0.0, 0, 0), (60, 0.0, 5, 4), (60, 20.0, 10, 29), (600, 0.0, 30, 299), (10, 0.0, 30, 4), (60, 59.0, 3600, 59)],
)
async def test_both_buckets_refill_evenly_over_the_minute(
    redis_url: str, limit: int, left: float, seconds: int, after: float
) -> None:
    clock = Clock()
    memory = Memory(clock)
    await memory.reserve([check(RPM, limit, limit - int(left))])
    clock.now += seconds
    assert (await memory.reserve([check(RPM, limit)])).standings[0].left == pytest.approx(after)
    name = secrets.token_hex(8)
    one = check(RPM, limit, name=name)
    async with Redis.from_url(redis_url) as redis:
        now, _ = await redis.time()
        await redis.hset(f"{{passerelle}}:{one.key}", mapping={"left": left, "at": now - seconds})
        standing = (await Shared(redis, workers=1).reserve([one])).standings[0]
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
    memory, passed = Memory(clock), []
    for gap in gaps:
        clock.now += gap
        made = memory.reserve_now([check(RPM, limit)])
        assert 0 <= made.standings[0].left <= limit
        if not made.refused:
            passed.append(clock.now)
    for start in passed:
        count = sum(start <= at <= start + window for at in passed)
        assert count <= limit + window * limit / 60 + 1e-6


@given(st.integers(1, 120), st.integers(1, 100))
async def test_a_caller_who_keeps_to_the_pace_is_never_refused(limit: int, requests: int) -> None:
    clock = Clock()
    memory = Memory(clock)
    for _ in range(requests):
        assert not memory.reserve_now([check(RPM, limit)]).refused
        clock.now += 60 / limit + 1e-6


@given(st.integers(1, 600), st.integers(1, 600), st.floats(0, 60))
async def test_a_caller_who_waits_as_told_gets_through(limit: int, amount: int, spent: float) -> None:
    amount = min(amount, limit)
    clock = Clock()
    memory = Memory(clock)
    clock.now += spent
    while not (made := memory.reserve_now([check(TPM, limit, amount)])).refused:
        pass
    clock.now += int(made.error().headers["retry-after"])
    assert not memory.reserve_now([check(TPM, limit, amount)]).refused


async def test_a_clock_that_goes_back_neither_fills_nor_empties_a_bucket() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.reserve_now([check(RPM, 2)])
    clock.now -= 500
    assert memory.reserve_now([check(RPM, 2)]).standings[0].left == 0
    clock.now += 500
    assert memory.reserve_now([check(RPM, 2)]).refused


async def test_the_memory_of_counters_is_bounded_and_forgets_who_was_away_longest() -> None:
    memory = Memory(Clock())
    for name in ("away", "back", *map(str, range(99_998))):
        memory.reserve_now([check(RPM, 1, name=name)])
    assert memory.reserve_now([check(RPM, 1, name="back")]).refused
    memory.reserve_now([check(RPM, 1, name="one more")])
    assert memory.reserve_now([check(RPM, 1, name="back")]).refused
    assert not memory.reserve_now([check(RPM, 1, name="away")]).refused


async def test_what_is_held_is_never_forgotten() -> None:
    memory = Memory(Clock())
    held = memory.reserve_now([check(PLACES, 1, name="held")])
    for number in range(100_010):
        other = memory.reserve_now([check(PLACES, 1, name=str(number))])
        memory.settle(other, [1])
    assert memory.reserve_now([check(PLACES, 1, name="held")]).refused
    memory.settle(held, [1])
    assert not memory.reserve_now([check(PLACES, 1, name="held")]).refused


async def test_the_reservations_of_a_worker_that_was_killed_end_with_its_lease(redis_url: str) -> None:
    async with on_redis(redis_url, lease=0.2) as workers:
        killed, other = workers.worker(), workers.worker()
        limits = [check(PLACES, 1), check(TPD, 1000, 900)]
        await killed.reserve(limits)
        assert (await other.reserve(limits)).refused
        await asyncio.sleep(0.25)  # the lease is Redis's to time
        assert not (await other.reserve(limits)).refused


async def test_a_worker_that_lives_keeps_what_it_holds_however_long(redis_url: str) -> None:
    async with on_redis(redis_url, lease=0.3) as workers:
        living, other = workers.worker(), workers.worker()
        assert isinstance(living, Shared)
        running = asyncio.create_task(living.run())
        await living.reserve([check(PLACES, 1)])
        await asyncio.sleep(1)
        assert (await other.reserve([check(PLACES, 1)])).refused
        running.cancel()


async def test_a_worker_that_was_stopped_beyond_its_lease_harms_no_counter(redis_url: str) -> None:
    async with on_redis(redis_url, lease=0.2) as workers:
        stopped, other = workers.worker(), workers.worker()
        limits = [check(PLACES, 2), check(TPD, 1000, 400)]
        late = await stopped.reserve(limits)
        await asyncio.sleep(0.25)
        one = await other.reserve(limits)
        again = await stopped.reserve(limits)  # under a new lease
        assert [int(standing.left) for standing in again.standings] == [0, 200]
        await ended(stopped, late, 1, 100)  # its place was given up, but what it used was used
        assert int((await other.reserve([check(TPD, 1000, 0)])).standings[0].left) == 100
        await ended(other, one, 1, 0)
        await ended(stopped, again, 1, 0)
        assert int((await stopped.reserve([check(TPD, 1000, 0)])).standings[0].left) == 900


async def test_redis_forgets_counters_that_nobody_needs(redis_url: str) -> None:
    async with on_redis(redis_url) as workers, Redis.from_url(redis_url) as redis:
        limiter = workers.worker()
        limits = [check(RPM, 60), check(TPM, 60, 60), check(TPD, 60), check(PLACES, 9), check(MONEY, 60)]
        reservation = await limiter.reserve(limits)
        assert isinstance(limiter, Shared)
        lives = [await redis.ttl(key) for key in limiter._keys(reservation.worker, limits)[1:]]
        assert [round(life / 3600) for life in lives] == [48, 0, 0, 48, 48, 840]
        assert (1 <= lives[1] <= 2, 60 <= lives[2] <= 61) == (True, True)
        await ended(limiter, reservation, 1, 60, 1, 1, 1)
        assert not await redis.exists(limiter._keys(reservation.worker, limits)[1])


async def test_many_at_once_find_out_that_redis_has_lost_everything(redis_url: str) -> None:
    async with on_redis(redis_url) as workers, Redis.from_url(redis_url) as redis:
        limiter = workers.worker()
        assert isinstance(limiter, Shared)

        async def later(delay: float) -> Reservation:
            await asyncio.sleep(delay)  # so that some ask while others' answers are on their way
            return await limiter.reserve([check(RPM, 10_000)])

        for _ in range(20):
            await redis.delete(f"{limiter._prefix}workers")
            made = await asyncio.gather(*(later(number / 20_000) for number in range(40)))
            assert not any(reservation.refused or reservation.degraded for reservation in made)


async def test_a_counter_that_redis_lost_starts_from_what_the_worker_saw_if_the_ledger_is_behind(
    redis_url: str,
) -> None:
    async with on_redis(redis_url) as workers, Redis.from_url(redis_url) as redis:
        limiter = workers.worker()
        assert isinstance(limiter, Shared)
        one = check(TPD, 1000, 100, floor=0)
        await ended(limiter, await limiter.reserve([one]), 100)
        await redis.delete(f"{limiter._prefix}{one.key}")
        with pytest.raises(Unseeded):
            await limiter.reserve([check(TPD, 1000, 100, floor=None)])
        again = await limiter.reserve([check(TPD, 1000, 100, floor=40)])  # the ledger has forty of the hundred yet
        assert again.standings[0].spent == 100
