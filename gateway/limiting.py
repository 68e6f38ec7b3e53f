"""Puts the limits together: counters here or on Redis, the policy, and the ledger that knows what was spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway.ledger import Ledger
from gateway.limits.checks import Check, Measure, Scope
from gateway.limits.memory import Limiter, Memory
from gateway.limits.policy import Policy
from gateway.limits.quotas import Quotas
from gateway.money import nanos
from gateway.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

_COLUMNS: Final[dict[Scope, str]] = {"key": "key", "user": "subject", "tenant": "tenant", "model": "model"}


def quotas(
    settings: Settings,
    ledger: Ledger,
    redis: Redis | None,
    *,
    told: Callable[[Check, int], None] | None = None,
    exhausted: Callable[[Check, int], None] | None = None,
    away: Callable[[bool], None] | None = None,
) -> Quotas:
    """The limits of the configuration.

    `told` hears of budgets as they are spent, `exhausted` of refusals since one is, `away` when Redis goes and comes back.
    """

    def heard(gone: bool) -> None:
        if not gone:
            made.forget()  # what was spent meanwhile only the ledger knows
        if away is not None:
            away(gone)

    def lost(checks: Sequence[Check]) -> None:
        made.forget_soon(checks)

    limiter: Limiter
    if redis is None:
        limiter = Memory(spent=told)
    else:
        from gateway.limits.shared import Shared  # and with it Redis's client: see `app`

        limiter = Shared(
            redis,
            workers=settings.server.workers,
            degrade=settings.fail_policy.redis == "degrade",
            spent=told,
            away=heard,
            lost=lost,
            prefix=settings.state.redis_prefix,
        )

    async def spent(check: Check) -> int:
        return await of_ledger(ledger, check)

    cached = settings.fail_policy.database_limits == "cached"
    made = Quotas(limiter, Policy(settings.limits), spent, exhausted=exhausted, cached=cached)
    return made


async def of_ledger(ledger: Ledger, check: Check) -> int:
    """What was charged of a budget since its day or month began; raises StoreUnavailable."""
    of_money = check.measure is Measure.MONEY_PER_MONTH
    since = datetime.fromisoformat(f"{check.window}-01" if of_money else check.window)
    names = {_COLUMNS[check.scope]: check.name}
    if check.scope == "user":
        names = {"tenant": check.tenant, "subject": check.name.removeprefix(f"{check.tenant}/")}
    charge = await ledger.spent(since.replace(tzinfo=UTC), **names)
    return nanos(charge.cost) if of_money else charge.tokens
