"""What a request may use is reserved before a model is asked, and what it has used is settled on every way out.

Counters are fast and may be lost; the ledger knows what was spent. A budget whose counter is new here, or lost, starts from it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Final

import structlog
from msgspec import structs

from auth import Principal
from auth.errors import StoreUnavailable
from gateway.bounds import Limits
from gateway.errors import GatewayError, LimitsUnavailable
from gateway.limits.checks import Check, Measure, Reservation, Standing, Unseeded
from gateway.limits.memory import Limiter
from gateway.limits.policy import Policy, Use
from gateway.money import nanos

log = structlog.get_logger()

_NEARLY: Final = 80  # percent: a request that is refused before was for very much, and says nothing about others
_REMEMBERED: Final = 10_000
_LATELY: Final = 1_000  # limits that `look` knows of, those of about two hundred callers
_LOOK_SECONDS: Final = 0.5  # whoever looks shall hear of the rest while Redis hangs
_LEDGER_SECONDS: Final = 2.0  # how long a request waits for the ledger's word on a budget
_AGAIN_SECONDS: Final = 5.0  # after which it is asked again, if it did not answer
_DRAINED_SECONDS: Final = 2.0  # after which the ledger has what was in a journal


class Quotas:
    """`spent` asks the ledger what was spent of a budget; raises StoreUnavailable.

    `exhausted` hears of budgets of which too little is left for a request.
    """

    def __init__(
        self,
        limiter: Limiter,
        policy: Policy,
        spent: Callable[[Check], Awaitable[int]],
        *,
        exhausted: Callable[[Check, int], None] | None = None,
        cached: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cached`: while the ledger does not answer what the counters say holds; else nobody with a budget is served."""
        self.limiter, self.policy = limiter, policy
        self._spent, self._exhausted, self._cached, self._clock = spent, exhausted, cached, clock
        self._asked: OrderedDict[str, None] = OrderedDict()  # budgets for which the ledger was asked
        self._asking: dict[str, asyncio.Future[int]] = {}
        self._silent_until = 0.0
        self._refused: OrderedDict[str, tuple[float, Reservation]] = OrderedDict()
        self._lately: OrderedDict[str, tuple[float, Check]] = OrderedDict()  # limits that were asked for, and when

    def replace(self, limits: Limits) -> None:
        """Go on with other limits."""
        self.policy.replace(limits)
        self._refused.clear()
        self._lately.clear()
        self.forget()  # of a budget that was not one for a while nobody has counted

    def hold_off(self, principal: Principal, address: str) -> None:
        """Refuse whoever was told a moment ago to wait longer than until now; nothing is counted. Raises RateLimited."""
        if not self._refused:
            return
        now = self._clock()
        for check in self.policy.checks(principal, address, None):
            until, reservation = self._refused.get(check.key, (0.0, None))
            if reservation is not None and now < until:
                raise _refusal(_later(reservation, until - now))

    async def reserve(self, principal: Principal, address: str, use: Use | None) -> Reservation:
        """Take what a request may use; without `use` only that there was one.

        Raises:
            RateLimited: a limit is reached; with the headers of where the caller stands.
            InsufficientQuota: a budget is spent.
            LimitsUnavailable: nobody can tell, and the operator would rather not serve then.
        """
        checks = self.policy.checks(principal, address, use)
        self._see(checks)
        try:
            reservation = await self.limiter.reserve(await self._floored(checks))
        except Unseeded as unknown:
            self.forget(unknown.checks)
            reservation = await self.limiter.reserve(await self._floored(checks))
        if reservation.refused:
            self._remember(reservation)
            raise _refusal(reservation)
        return reservation

    def settle(self, reservation: Reservation, tokens: int, cost: Decimal) -> None:
        """Count what was used instead; only the first call counts."""
        money = nanos(cost) if cost else 0
        self.limiter.settle(reservation, [_used(standing.check, tokens, money) for standing in reservation.standings])

    async def look(self, tenant: str | None = None) -> list[Standing]:
        """Where the limits of late callers stand of which something is used; of a `tenant`, or also what no tenant owns.

        Nothing if nobody can tell.
        """
        now = self._clock()
        aged = [structs.replace(check, ends=check.ends - (now - at)) for at, check in self._lately.values()]
        wanted = [
            check
            for check in aged
            if (check.kind != "budget" or check.ends > 0)
            and (tenant is None or (check.tenant == tenant and not check.of_installation))
        ]
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                standings = await self.limiter.look(wanted)
        except TimeoutError:
            return []
        return [standing for standing in standings if standing.used > 0]

    def forget(self, checks: Iterable[Check] = ()) -> None:
        """Ask the ledger again about budgets, as their counters were lost; about all of them if none is named."""
        checks = tuple(checks)
        for check in checks:
            self._asked.pop(check.key, None)
        if not checks:
            self._asked.clear()

    def forget_soon(self, checks: Iterable[Check]) -> None:
        """The same, once the ledger has what is in the journals now."""
        asyncio.get_running_loop().call_later(_DRAINED_SECONDS, self.forget, tuple(checks))

    def _see(self, checks: Iterable[Check]) -> None:
        now, lately = self._clock(), self._lately
        for check in checks:
            lately[check.key] = (now, check)
            lately.move_to_end(check.key)
        while len(lately) > _LATELY:
            lately.popitem(last=False)

    async def _floored(self, checks: Sequence[Check]) -> Sequence[Check]:
        """The checks with what the ledger says, where it has to be asked."""
        if all(check.kind != "budget" for check in checks):
            return checks
        found = []
        for check in checks:
            if check.kind != "budget" or check.key in self._asked:
                found.append(check)
            elif check.scope == "address":  # the ledger has no addresses
                found.append(check.at_least(0))
            else:
                found.append(check.at_least(await self._floor(check)))
        return found

    async def _floor(self, check: Check) -> int:
        spent = 0
        if self._clock() >= self._silent_until:
            try:
                async with asyncio.timeout(_LEDGER_SECONDS):
                    spent = await self._once(check)
            except (StoreUnavailable, TimeoutError):
                self._silent_until = self._clock() + _AGAIN_SECONDS
                log.warning("budgets_from_counters", reason="the ledger does not answer")
            else:
                self._asked[check.key] = None
                if len(self._asked) > _REMEMBERED:
                    self._asked.popitem(last=False)
                return spent
        if not self._cached:
            raise LimitsUnavailable("What was spent of a budget cannot be told now.", headers={"retry-after": "5"})
        return spent

    async def _once(self, check: Check) -> int:
        """One question at a time about a budget, however many requests wait for it; none of them can cancel it for the others."""
        task = self._asking.get(check.key)
        if task is None:
            task = self._asking[check.key] = asyncio.ensure_future(self._spent(check))
            task.add_done_callback(partial(self._answered, check.key))
        return await asyncio.shield(task)

    def _answered(self, key: str, task: asyncio.Future[int]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # nobody may be left who waits for it

    def _remember(self, reservation: Reservation) -> None:
        """Whoever has to wait for a request's turn need not send the whole of it to hear so again."""
        now = self._clock()
        for standing in reservation.standings:
            check = standing.check
            if not standing.passed and check.measure is Measure.REQUESTS_PER_MINUTE and check.scope != "model":
                self._refused[check.key] = (now + standing.wait, reservation)
                if len(self._refused) > _REMEMBERED:
                    self._refused.popitem(last=False)
            elif standing.exhausted and self._exhausted is not None and standing.spent * 100 >= check.limit * _NEARLY:
                self._exhausted(check, standing.spent)


def _later(reservation: Reservation, wait: float) -> Reservation:
    """The same refusal, so many seconds before its end."""
    standings = []
    for standing in reservation.standings:
        check = standing.check
        if check.measure is Measure.REQUESTS_PER_MINUTE and not standing.passed:
            standings.append(Standing(check, check.amount - wait * check.limit / 60))
        else:
            standings.append(standing)
    return replace(reservation, standings=standings)


def _refusal(reservation: Reservation) -> GatewayError:
    error = reservation.error()
    error.headers = {**reservation.headers(), **error.headers}
    return error


def _used(check: Check, tokens: int, money: int) -> int:
    if check.measure in (Measure.REQUESTS_PER_MINUTE, Measure.CONCURRENT):
        return check.amount
    return money if check.measure is Measure.MONEY_PER_MONTH else tokens
