"""Limits counted in this process: the twin of `shared.Shared`, with the same arithmetic and the same tests."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.limits.checks import Check, Reservation, Standing, Unseeded

_COUNTERS: Final = 100_000


class Limiter(Protocol):
    """Reserves over all limits of a request in one atomic step, and takes or gives back the difference at its end."""

    async def reserve(self, checks: Sequence[Check]) -> Reservation:
        """Take every amount, or none of them. Raises Unseeded."""

    def settle(self, reservation: Reservation, actual: Sequence[int]) -> None:
        """Count what was used of each limit in place of what was reserved; only the first call of a reservation counts."""

    async def settled(self, reservation: Reservation) -> None:
        """Wait until every other worker knows of its end, or not at all where that is impossible."""

    async def look(self, checks: Sequence[Check]) -> list[Standing]:
        """Where the limits stand, without changing anything; those that cannot be told are missing. Amounts do not matter."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float

    def refilled(self, limit: int, now: float) -> float:
        """What is left of it at a time; a clock that went back adds nothing."""
        return min(float(limit), self.left + max(0.0, now - self.at) * limit / 60)


@dataclass(slots=True)
class _Budget:
    spent: int
    held: int = 0


class Memory:
    """Counters by key. Of too many the one that was not asked for longest is forgotten, unless somebody holds it."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, spent: Callable[[Check, int], None] | None = None
    ) -> None:
        """`spent` hears how much of a budget has been spent whenever that has changed."""
        self._now, self._told = now, spent
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._open: set[str] = set()
        self._ids = itertools.count(1)  # of this process's reservations, and nobody else's

    async def reserve(self, checks: Sequence[Check]) -> Reservation:
        """See `Limiter`."""
        return self.reserve_now(checks)

    def reserve_now(self, checks: Sequence[Check]) -> Reservation:
        """`reserve`, which waits for nothing."""
        unseeded = [check for check in checks if check.kind == "budget" and not self._seeded(check)]
        if unseeded:
            raise Unseeded(unseeded)
        now = self._now()
        found = [(check, *self._found(check, now)) for check in checks]
        reservation = Reservation(str(next(self._ids)), (), holder=self)
        if not all(check.passes(left) for check, left, _ in found):
            reservation.refused, reservation.standings = True, [Standing(*each) for each in found]
            return reservation
        self._open.add(reservation.id)
        reservation.standings = [self._take(*each) for each in found]
        self._forget()
        return reservation

    def settle(self, reservation: Reservation, actual: Sequence[int]) -> None:
        """See `Limiter`."""
        if reservation.id not in self._open:
            return
        self._open.remove(reservation.id)
        now = self._now()
        for standing, used in zip(reservation.standings, actual, strict=True):
            check = standing.check
            if check.kind == "bucket":
                if used != check.amount:
                    bucket = self._bucket(check, now)
                    bucket.left = min(float(check.limit), bucket.left + check.amount - used)
                continue
            budget = self._budgets[check.key]
            budget.held -= check.amount
            if check.kind == "budget" and used:
                budget.spent += used
                if self._told is not None:
                    self._told(check, budget.spent)

    async def settled(self, reservation: Reservation) -> None:
        """See `Limiter`."""

    async def look(self, checks: Sequence[Check]) -> list[Standing]:
        """See `Limiter`."""
        return self.look_now(checks)

    def look_now(self, checks: Sequence[Check]) -> list[Standing]:
        """`look`, which waits for nothing."""
        return [self._look(check) for check in checks]

    def spent(self) -> dict[str, int]:
        """What was spent of each budget, by its counter."""
        return {key: budget.spent for key, budget in self._budgets.items() if budget.spent}

    def _seeded(self, check: Check) -> bool:
        return check.floor is not None or check.key in self._budgets

    def _found(self, check: Check, now: float) -> tuple[float, int]:
        """What is left, and what was spent of a budget."""
        if check.kind == "bucket":
            return self._bucket(check, now).left, 0
        budget = self._budgets.get(check.key)
        if budget is None:
            budget = self._budgets[check.key] = _Budget(0)
        self._budgets.move_to_end(check.key)
        budget.spent = max(budget.spent, check.floor or 0)
        return check.limit - budget.spent - budget.held, budget.spent

    def _look(self, check: Check) -> Standing:
        if check.kind == "bucket":
            bucket = self._buckets.get(check.key)
            return Standing(check, bucket.refilled(check.limit, self._now()) if bucket else float(check.limit))
        budget = self._budgets.get(check.key, _Budget(0))
        return Standing(check, check.limit - budget.spent - budget.held, budget.spent)

    def _take(self, check: Check, left: float, spent: int) -> Standing:
        if check.kind == "bucket":
            self._buckets[check.key].left -= check.amount
        else:
            self._budgets[check.key].held += check.amount
        return Standing(check, left - check.amount, spent)

    def _bucket(self, check: Check, now: float) -> _Bucket:
        bucket = self._buckets.get(check.key)
        if bucket is None:
            bucket = self._buckets[check.key] = _Bucket(float(check.limit), now)
            return bucket
        self._buckets.move_to_end(check.key)
        bucket.left = bucket.refilled(check.limit, now)
        bucket.at = max(bucket.at, now)
        return bucket

    def _forget(self) -> None:
        while len(self._buckets) > _COUNTERS:
            self._buckets.popitem(last=False)
        if len(self._budgets) > _COUNTERS:
            key, budget = self._budgets.popitem(last=False)
            if budget.held:
                self._budgets[key] = budget
