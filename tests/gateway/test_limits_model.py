"""Reserve and settle against a model of plain sums: in this process, and with four workers on Redis."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from gateway.limits.checks import Measure, Reservation
from gateway.limits.memory import Limiter
from gateway.limits.shared import Shared
from tests.gateway.test_limits import Workers, check, on_memory, on_redis

LIMITS = {Measure.TOKENS_PER_DAY: 1000, Measure.MONEY_PER_MONTH: 5000, Measure.CONCURRENT: 4}
NAMES = ("alice", "bob")
Result = TypeVar("Result")


@dataclass
class Counter:
    """What the model knows of one limit: what was used, and what each open reservation holds."""

    limit: int
    used: int = 0
    held: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return self.limit - self.used - sum(self.held.values())


@dataclass
class Held:
    """An open reservation, and the worker it was made by."""

    worker: int
    reservation: Reservation


class Model(RuleBasedStateMachine):
    """Any order of reservations over any of the limits, their ends, repeated ends, and deaths of workers."""

    opened: AbstractAsyncContextManager[Workers]
    workers_can_die = False
    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        workers = self.run(type(self).start())
        self.workers = workers
        self.limiters: list[Limiter] = [workers.worker() for _ in range(4)]
        self.counters = {(name, measure): Counter(limit) for name in NAMES for measure, limit in LIMITS.items()}
        self.dead: set[str] = set()
        self.honest = True

    @classmethod
    async def start(cls) -> Workers:
        return await cls.opened.__aenter__()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        self.run(type(self).opened.__aexit__(None, None, None))
        self.loop.close()

    @rule(
        target=reservations,
        worker=st.integers(0, 3),
        amounts=st.dictionaries(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(list(LIMITS))), st.integers(1, 700), min_size=1
        ),
    )
    def reserve(self, worker: int, amounts: dict[tuple[str, Measure], int]) -> Held:
        amounts = {of: 1 if of[1] is Measure.CONCURRENT else amount for of, amount in amounts.items()}
        checks = [check(of[1], LIMITS[of[1]], amount, name=of[0]) for of, amount in amounts.items()]
        made = self.run(self.limiters[worker].reserve(checks))
        fits = all(self.counters[of].left >= amount for of, amount in amounts.items())
        assert made.refused is not fits
        if fits:
            for of, amount in amounts.items():
                self.counters[of].held[made.id] = amount
        assert [standing.left for standing in made.standings] == [self.counters[of].left for of in amounts]
        return Held(worker, made)

    @rule(held=consumes(reservations), share=st.fractions(0, 1))
    def settle(self, held: Held, share: Any) -> None:
        self._settle(held, lambda reserved: int(reserved * share))

    @rule(held=consumes(reservations), more=st.integers(1, 300))
    def settle_above_what_was_reserved(self, held: Held, more: int) -> None:
        self.honest = self.honest and held.reservation.refused
        self._settle(held, lambda reserved: reserved + more)

    @rule(held=reservations)
    def settle_and_settle_again(self, held: Held) -> None:
        self._settle(held, lambda reserved: reserved // 2)
        self._settle(held, lambda reserved: reserved)

    @rule(worker=st.integers(0, 3))
    def die(self, worker: int) -> None:
        if self.workers_can_die:
            self.run(self._killed(worker))

    def _settle(self, held: Held, used: Any) -> None:
        checks = [standing.check for standing in held.reservation.standings]
        actual = [1 if of.measure is Measure.CONCURRENT else used(of.amount) for of in checks]
        limiter = self.limiters[held.worker]

        async def end() -> None:
            limiter.settle(held.reservation, actual)
            await limiter.settled(held.reservation)

        if held.reservation.refused or held.reservation.worker in self.dead:
            return
        self.run(end())
        for of, amount in zip(checks, actual, strict=True):
            counter = self.counters[of.name, of.measure]
            if counter.held.pop(held.reservation.id, None) is not None and of.kind == "budget":
                counter.used += amount

    async def _killed(self, worker: int) -> None:
        """Nothing is said by a killed process; its lease ends."""
        dead = self.limiters[worker]
        assert isinstance(dead, Shared)
        await dead._redis.zrem(f"{dead._prefix}workers", dead._worker)
        self.dead.add(dead._worker)
        self.limiters[worker] = self.workers.worker()
        for counter in self.counters.values():
            counter.held = {id_: amount for id_, amount in counter.held.items() if self.by.get(id_) != dead._worker}

    @property
    def by(self) -> dict[str, str]:
        return {held.reservation.id: held.reservation.worker for held in self._all_open()}

    def _all_open(self) -> list[Held]:
        return [self.names_to_values[ref.name] for ref in self.bundles.get("reservations", [])]

    @invariant()
    def nothing_is_overspent_unless_more_was_used_than_reserved(self) -> None:
        if self.honest:
            assert all(counter.left >= 0 for counter in self.counters.values())


RUNS = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_in_this_process() -> None:
    class InMemory(Model):
        opened = on_memory()

        @classmethod
        async def start(cls) -> Workers:
            cls.opened = on_memory()
            return await cls.opened.__aenter__()

    run_state_machine_as_test(InMemory, settings=RUNS)


def test_with_four_workers_on_redis(redis_url: str) -> None:
    class OnRedis(Model):
        workers_can_die = True

        @classmethod
        async def start(cls) -> Workers:
            cls.opened = on_redis(redis_url)
            return await cls.opened.__aenter__()

    run_state_machine_as_test(OnRedis, settings=RUNS)
