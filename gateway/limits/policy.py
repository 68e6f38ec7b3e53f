"""Which limits a request has to pass, by the configuration and by what the caller carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from auth import Principal
from gateway.bounds import Bounds, Limits, OwnBounds, site_of
from gateway.limits.checks import TOKENS, Check, Measure, Scope
from gateway.money import nanos


@dataclass(frozen=True, slots=True)
class Use:
    """What a request may use at most: tokens of prompt and answer, and money in `money.NANO`. `model` is a published name."""

    model: str | None = None
    tokens: int = 0
    money: int = 0


class _Limited(NamedTuple):
    scope: Scope
    name: str
    limits: dict[Measure, int]


class Policy:
    """`now` gives the time; days and months are those of UTC."""

    def __init__(self, limits: Limits, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.replace(limits)

    def replace(self, limits: Limits) -> None:
        """Go on with other limits."""
        self.max_choices, self.answer_tokens = limits.max_choices, limits.answer_tokens
        self._defaults: dict[Scope, dict[Measure, int]] = {
            "address": _whole(limits.address),
            "key": _whole(limits.key),
            "user": _whole(limits),
            "tenant": _whole(limits.tenant),
            "model": _whole(limits.model),
        }
        named: dict[Scope, dict[str, OwnBounds]] = {
            "address": limits.addresses,
            "key": limits.keys,
            "user": limits.users,
            "tenant": limits.tenants,
            "model": limits.models,
        }
        self._named: dict[tuple[Scope, str], dict[Measure, int]] = {
            (scope, name): {**self._defaults[scope], **_whole(own)}
            for scope, names in named.items()
            for name, own in names.items()
        }

    def counts_tokens(self, principal: Principal, address: str, model: str) -> bool:
        """Whether it matters how long a request is and what it may cost."""
        return any(
            measure in TOKENS or measure is Measure.MONEY_PER_MONTH
            for limited in self._limited(principal, address, model)
            for measure, limit in limited.limits.items()
            if limit
        )

    def checks(self, principal: Principal, address: str, use: Use | None) -> list[Check]:
        """The limits of a request; without `use`, those of one that is refused before it is known what it asks for."""
        now = self._now().astimezone(UTC)
        found = []
        for scope, name, limits in self._limited(principal, address, use.model if use else None):
            for measure, limit in limits.items():
                amount = _amount(measure, use)
                if limit and amount:
                    window, ends = _window(measure, now)
                    found.append(Check(scope, name, measure, limit, amount, window, ends, tenant=principal.tenant))
        return found

    def _limited(self, principal: Principal, address: str, model: str | None) -> Iterator[_Limited]:
        site = site_of(address)
        yield _Limited("address", site, self._of("address", site))
        if principal.key is not None:
            own = self._of("key", principal.key)
            yield _Limited("key", principal.key, _carrying(own, principal.key_requests_per_minute))
        caller = f"{principal.tenant}/{principal.subject}"
        yield _Limited("user", caller, _carrying(self._of("user", principal.subject), principal.requests_per_minute))
        yield _Limited("tenant", principal.tenant, self._of("tenant", principal.tenant))
        if model is not None:
            yield _Limited("model", model, self._of("model", model))

    def _of(self, scope: Scope, name: str) -> dict[Measure, int]:
        return self._named.get((scope, name), self._defaults[scope])


def _whole(bounds: Bounds | OwnBounds) -> dict[Measure, int]:
    """The limits that are given; 0 is none."""
    given = {
        Measure.REQUESTS_PER_MINUTE: bounds.requests_per_minute,
        Measure.TOKENS_PER_MINUTE: bounds.tokens_per_minute,
        Measure.TOKENS_PER_DAY: bounds.tokens_per_day,
        Measure.CONCURRENT: bounds.concurrent,
        Measure.MONEY_PER_MONTH: None if bounds.money_per_month is None else nanos(bounds.money_per_month),
    }
    return {measure: limit for measure, limit in given.items() if limit is not None}


def _carrying(limits: dict[Measure, int], requests_per_minute: int | None) -> dict[Measure, int]:
    if requests_per_minute is None:
        return limits
    return {**limits, Measure.REQUESTS_PER_MINUTE: requests_per_minute}


def _amount(measure: Measure, use: Use | None) -> int:
    if measure is Measure.REQUESTS_PER_MINUTE:
        return 1
    if use is None:
        return 0
    if measure is Measure.CONCURRENT:
        return 1
    return use.money if measure is Measure.MONEY_PER_MONTH else use.tokens


def _window(measure: Measure, now: datetime) -> tuple[str, float]:
    """The day or month by name, and the seconds until it ends."""
    if measure is Measure.TOKENS_PER_DAY:
        ends = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return f"{now:%Y-%m-%d}", (ends - now).total_seconds()
    if measure is Measure.MONEY_PER_MONTH:
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        ends = (first + timedelta(days=32)).replace(day=1)
        return f"{now:%Y-%m}", (ends - now).total_seconds()
    return "", 0.0
