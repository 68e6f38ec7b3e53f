"""Where limits stand is read without changing anything: the same tests on a limiter in this process and on one on Redis."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from auth import Principal
from gateway.bounds import Limits
from gateway.errors import RateLimited
from gateway.limits.checks import Check, Measure
from gateway.limits.memory import Memory
from gateway.limits.policy import Policy, Use
from gateway.limits.quotas import Quotas
from gateway.limits.shared import Shared, connect
from gateway.money import ZERO
from tests.gateway.test_limits import PLACES, RPM, TPD, Clock, Workers, check, ended, near, on_memory, on_redis

NOW = datetime(2030, 5, 6, 23, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", "redis"])
async def workers(request: pytest.FixtureRequest) -> AsyncIterator[Workers]:
    """Both limiters."""
    opened = on_memory() if request.param == "memory" else on_redis(request.getfixturevalue("redis_url"))
    async with opened as made:
        yield made


async def used(workers: Workers, of: Check) -> float:
    (standing,) = await workers.worker().look([of])
    return standing.used


@pytest.mark.parametrize("measure", list(Measure))
async def test_what_is_reserved_and_what_was_used_is_seen_by_every_worker(workers: Workers, measure: Measure) -> None:
    one = workers.worker()
    of = check(measure, 1000, 300)
    assert await used(workers, of) == 0
    reservation = await one.reserve([of])
    seen = [await used(workers, of) for _ in range(20)]
    assert seen == [near(300)] * 20
    await ended(one, reservation, 100)
    assert await used(workers, of) == near(0 if measure is PLACES else 100)


@pytest.mark.parametrize("measure", list(Measure))
async def test_looking_changes_nothing(workers: Workers, measure: Measure) -> None:
    of = check(measure, 5)
    limiter = workers.worker()
    made = []
    for _ in range(7):
        await limiter.look([of])
        made.append(await limiter.reserve([of]))
        await limiter.look([of])
    assert [reservation.refused for reservation in made] == [False] * 5 + [True] * 2


async def test_a_budget_that_nobody_has_asked_for_does_not_become_known_by_looking(workers: Workers) -> None:
    of = check(TPD, 1000, 10, floor=None)
    (standing,) = await workers.worker().look([of])
    assert (standing.left, standing.spent) == (1000, 0)
    reservation = await workers.worker().reserve([of.at_least(400)])
    assert not reservation.refused
    (standing,) = await workers.worker().look([of])
    assert (standing.left, standing.spent) == (590, 400)


async def test_many_are_read_in_their_order(workers: Workers) -> None:
    every = [check(TPD, 1000, number, name=str(number)) for number in range(150)]
    for of in every:
        await workers.worker().reserve([of])
    assert [standing.used for standing in await workers.worker().look(every)] == list(range(150))


async def test_a_bucket_refills_while_nobody_asks() -> None:
    clock = Clock()
    memory = Memory(now=clock)
    of = check(RPM, 60, 30)
    await memory.reserve([of])
    clock.now += 10
    assert [standing.used for standing in await memory.look([of])] == [pytest.approx(20)]


async def test_while_redis_is_away_nothing_is_known_and_nobody_waits() -> None:
    gone = Shared(connect("redis://127.0.0.1:1"), workers=2, prefix=secrets.token_hex(6))
    assert await gone.look([check(RPM, 10)]) == []
    await gone.reserve([check(RPM, 10)])
    (standing,) = await gone.look([check(RPM, 10)])
    assert standing.check.limit == 5
    assert standing.used == pytest.approx(1, abs=0.1)
    await gone.close()


async def test_a_redis_that_hangs_holds_up_nobody_who_looks() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def nothing(_: Check) -> int:
        return 0

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        redis = connect(f"redis://127.0.0.1:{port}", seconds=30)
        made = Quotas(Shared(redis, workers=1), Policy(LIMITS, lambda: NOW), nothing)
        reserving = asyncio.create_task(made.reserve(ALICE, "", None))
        await asyncio.sleep(0)  # it is known now whom to look for
        async with asyncio.timeout(5):
            assert await made.look() == []
        reserving.cancel()
        await asyncio.wait([reserving])
        await redis.aclose()


ALICE = Principal("alice", "acme", frozenset(), key="k1")
BOB = Principal("bob", "globex", frozenset())


def quotas(workers: Workers, limits: Limits) -> Quotas:
    async def nothing(_: Check) -> int:
        return 0

    return Quotas(workers.worker(), Policy(limits, lambda: NOW), nothing)


async def seen(of: Quotas, tenant: str | None = None) -> set[tuple[str, str]]:
    return {(standing.check.scope, standing.check.name) for standing in await of.look(tenant)}


LIMITS = Limits.model_validate(
    {
        "requests_per_minute": 10,
        "address": {"requests_per_minute": 100},
        "key": {"requests_per_minute": 20},
        "tenant": {"tokens_per_day": 1000},
        "model": {"concurrent": 5},
    }
)


async def test_a_tenant_s_limits_are_those_that_it_shares_with_nobody(workers: Workers) -> None:
    both = quotas(workers, LIMITS)
    for caller in (ALICE, BOB):
        await both.reserve(caller, "192.0.2.1", Use("m", 10))
    of_alice = {("user", "acme/alice"), ("tenant", "acme"), ("key", "k1")}
    of_bob = {("user", "globex/bob"), ("tenant", "globex")}
    assert await seen(both, "acme") == of_alice
    assert await seen(both, "globex") == of_bob
    assert await seen(both, "initech") == set()
    assert await seen(both) == of_alice | of_bob | {("address", "192.0.2.1"), ("model", "m")}


async def test_what_is_not_used_any_more_is_not_seen_and_new_limits_begin_anew(workers: Workers) -> None:
    made = quotas(workers, LIMITS)
    reservation = await made.reserve(ALICE, "192.0.2.1", Use("m", 10))
    made.settle(reservation, 0, ZERO)
    await made.limiter.settled(reservation)
    assert ("model", "m") not in await seen(made)
    made.replace(LIMITS)
    assert await seen(made) == set()


async def test_whoever_is_refused_is_seen_at_the_limit(workers: Workers) -> None:
    made = quotas(workers, Limits(requests_per_minute=1))
    await made.reserve(ALICE, "", None)
    with pytest.raises(RateLimited):
        await made.reserve(ALICE, "", None)
    (standing,) = await made.look()
    assert standing.used == pytest.approx(1, abs=0.1)


async def test_the_day_of_a_budget_ends_while_nobody_asks() -> None:
    clock = Clock()

    async def nothing(_: Check) -> int:
        return 0

    made = Quotas(Memory(), Policy(LIMITS, lambda: NOW), nothing, clock=clock)
    await made.reserve(ALICE, "", Use("m", 10))
    clock.now += 3000
    assert [row.reset for row in await made.look() if row.check.kind == "budget"] == [600]
    clock.now += 700
    assert [row for row in await made.look() if row.check.kind == "budget"] == []


async def test_so_many_are_remembered_and_no_more(workers: Workers) -> None:
    made = quotas(workers, Limits(requests_per_minute=10))
    for number in range(1100):
        await made.reserve(Principal(f"user-{number}", "acme", frozenset()), "", None)
    names = {name for _, name in await seen(made)}
    assert len(names) <= 1000
    assert "acme/user-1099" in names
