"""One limit a request has to pass, where it stands, and what a refusal says (OpenAI API reference, "Rate limits")."""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from gateway.errors import GatewayError, InsufficientQuota, RateLimited

Scope = Literal["address", "key", "user", "tenant", "model"]
Kind = Literal["bucket", "budget", "places"]

SCOPES: Final[tuple[Scope, ...]] = ("address", "key", "user", "tenant", "model")
EPSILON: Final = 1e-6  # whoever waited as long as told has waited long enough, whatever floats say
_PATIENCE: Final = 60.0  # seconds; the official SDKs wait as long as they are told up to a minute, and guess beyond


class Measure(enum.StrEnum):
    """What is limited. Amounts are whole: requests, tokens, or `money.NANO` of the currency."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    TOKENS_PER_DAY = "tokens_per_day"
    CONCURRENT = "concurrent"
    MONEY_PER_MONTH = "money_per_month"


# A bucket refills evenly over a minute; a budget is spent until its day or month (of UTC) is over; a place is held meanwhile.
KINDS: Final[dict[Measure, Kind]] = {
    Measure.REQUESTS_PER_MINUTE: "bucket",
    Measure.TOKENS_PER_MINUTE: "bucket",
    Measure.TOKENS_PER_DAY: "budget",
    Measure.MONEY_PER_MONTH: "budget",
    Measure.CONCURRENT: "places",
}
_WORDS: Final = {
    Measure.REQUESTS_PER_MINUTE: "requests per minute",
    Measure.TOKENS_PER_MINUTE: "tokens per minute",
    Measure.TOKENS_PER_DAY: "tokens per day",
    Measure.CONCURRENT: "requests at once",
}
_WHOSE: Final = {
    "address": "your address",
    "key": "this API key",
    "user": "this user",
    "tenant": "your organization",
    "model": "this model",
}
TOKENS: Final = frozenset({Measure.TOKENS_PER_MINUTE, Measure.TOKENS_PER_DAY})
_UNITS: Final = {Measure.REQUESTS_PER_MINUTE: "requests", **dict.fromkeys(TOKENS, "tokens")}


class Check(Struct, frozen=True):
    """A limit, and how much of it a request reserves. Several are made for each request, so they are made quickly.

    `name` is a user's tenant and id, for it is unique in its tenant alone. `window` names the day or month of a budget, and it
    ends in `ends` seconds; `floor` is what the ledger says was spent in it, None where it was not asked. By the others are
    given: `kind`, how it is counted, and `key`, its counter.
    """

    scope: Scope
    name: str
    measure: Measure
    limit: int
    amount: int
    window: str = ""
    ends: float = 0.0
    floor: int | None = None
    tenant: str = ""
    kind: Kind = "bucket"
    key: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "kind", KINDS[self.measure])
        force_setattr(self, "key", f"{self.scope}:{self.measure}:{self.window}:{self.name}")

    def passes(self, left: float) -> bool:
        """Whether so much is enough for the request."""
        return left >= self.amount - EPSILON

    @property
    def of_installation(self) -> bool:
        """Whether callers of several tenants share it."""
        return self.scope in ("address", "model")

    @property
    def unit(self) -> str:
        """What its amounts are of."""
        if self.measure is Measure.MONEY_PER_MONTH:
            return "money"
        return "tokens" if self.measure in TOKENS else "requests"

    def at_least(self, floor: int) -> Check:
        """The same, knowing the ledger."""
        return replace(self, floor=floor)

    def share(self, workers: int) -> Check:
        """A worker's part of it, where none knows of the others: of a budget, a part of what is left by the ledger."""
        known = self.floor or 0
        return replace(self, limit=known + max(1, (self.limit - known) // workers))


class Standing(Struct, frozen=True):
    """Where a limit stands: `left` of it after a reservation, or before a refusal; `spent` of a budget, without reservations."""

    check: Check
    left: float
    spent: int = 0

    @property
    def passed(self) -> bool:
        """Whether a refused request would have passed this one."""
        return self.check.passes(self.left)

    @property
    def used(self) -> float:
        """How much of it is not there, reservations included; more than the limit where it is in debt."""
        return max(0.0, self.check.limit - self.left)

    @property
    def reset(self) -> float:
        """Seconds until all of it is there again."""
        check = self.check
        if check.kind == "bucket":
            return max(0.0, (check.limit - self.left) * 60 / check.limit)
        return check.ends if check.kind == "budget" else 0.0

    @property
    def wait(self) -> float:
        """Seconds until the request may pass; infinite where it asks for more than there ever is."""
        check = self.check
        if check.amount > check.limit:
            return math.inf
        if check.kind == "bucket":
            return max(0.0, (check.amount - self.left) * 60 / check.limit)
        if check.kind == "budget" and self.spent + check.amount > check.limit:
            return check.ends
        return 1.0  # what others have reserved is given back when their answers end

    @property
    def exhausted(self) -> bool:
        """Whether a budget of money is spent, so that waiting for others does not help."""
        check = self.check
        return check.measure is Measure.MONEY_PER_MONTH and self.spent + check.amount > check.limit


@dataclass(slots=True)
class Reservation:
    """What was taken, or why nothing was. `refused`: nothing was; `degraded`: a worker's share alone was looked at.

    `worker` is who holds it, as the limiter knows it; `settled` is done when all workers know of its end.
    """

    id: str
    standings: Sequence[Standing]
    refused: bool = False
    degraded: bool = False
    worker: str = ""
    holder: Any = field(default=None, repr=False)
    settled: asyncio.Future[None] | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """The headers OpenAI sends, of the limit with the least left."""
        tightest: dict[str, Standing] = {}
        for row in self.standings:
            unit = _UNITS.get(row.check.measure)
            if unit is not None and (unit not in tightest or row.left < tightest[unit].left):
                tightest[unit] = row
        headers: dict[str, str] = {}
        for unit, row in tightest.items():
            headers[f"x-ratelimit-limit-{unit}"] = str(row.check.limit)
            headers[f"x-ratelimit-remaining-{unit}"] = str(max(0, math.floor(row.left)))
            headers[f"x-ratelimit-reset-{unit}"] = duration(row.reset)
        return headers

    def error(self) -> GatewayError:
        """Why a refused one was."""
        failing = [row for row in self.standings if not row.passed]
        worst = max(failing, key=lambda row: (row.exhausted, row.wait))
        made = _spent(worst) if worst.exhausted else _limited(worst)
        made.limit = worst.check.scope, worst.check.measure.value
        return made


class Unseeded(Exception):
    """A limiter does not know what was spent of budgets; `checks` names them. Nothing was taken."""

    def __init__(self, checks: Iterable[Check]) -> None:
        super().__init__()
        self.checks = tuple(checks)


def _limited(standing: Standing) -> RateLimited:
    check, wait = standing.check, standing.wait
    used = max(0, math.ceil(check.limit - standing.left))
    what = "Rate limit reached" if wait < math.inf else "Request too large"
    reached = f"{what} for {_WHOSE[check.scope]} on {_WORDS.get(check.measure, 'the budget')}: "
    figures = f"limit {check.limit}, used {used}, requested {check.amount}. " if check.measure in _WORDS else ""
    if wait == math.inf:
        advice = "Shorten the prompt or lower max_tokens."
        headers = {"x-should-retry": "false", "retry-after": str(max(1, math.ceil(standing.reset)))}
    else:
        advice = f"Please try again in {duration(max(wait, 0.001))}."
        headers = {"retry-after": str(max(1, math.ceil(wait)))}
        if wait > _PATIENCE:
            headers["x-should-retry"] = "false"
    made = RateLimited(reached + figures + advice, headers=headers)
    if check.measure in TOKENS:
        made.type = "tokens"
    return made


def _spent(standing: Standing) -> InsufficientQuota:
    headers = {"x-should-retry": "false", "retry-after": str(max(1, math.ceil(standing.check.ends)))}
    return InsufficientQuota(
        f"The budget of {_WHOSE[standing.check.scope]} for this month is spent, or what is left of it is less than the request "
        "may cost. Ask whoever runs this service, or wait for the next month.",
        headers=headers,
    )


def duration(seconds: float) -> str:
    """As OpenAI writes durations, which is Go's way: `6ms`, `1.5s`, `2m0s`, `3h20m5s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms" if seconds > 0 else "0s"
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    whole = math.ceil(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{f'{hours}h' if hours else ''}{minutes}m{whole % 60}s"
