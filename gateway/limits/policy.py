"""Which limits a request has to pass, by the configuration and by what the caller carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from auth import Principal
from gateway.bounds import Bounds, Limits, OwnBounds, site_of
from gateway.limits.checks import KINDS, TOKENS, Check, Measure, Scope
from gateway.money import nanos


class Use(NamedTuple):
    """What a request may use at most: tokens of prompt and answer, and money in `money.NANO`. `model` is a published name."""

    model: str | None = None
    tokens: int = 0
    money: int = 0


_ONE_REQUEST: Final = {Measure.REQUESTS_PER_MINUTE: 1}
# The limits of one thing, those that are none left out; and whether one of them is of tokens or money.
_Limits = tuple[tuple[Measure, int], ...]


class _Own(NamedTuple):
    given: dict[Measure, int]
    limits: _Limits
    counts_tokens: bool


class Policy:
    """`now` gives the time; days and months are those of UTC."""

    def __init__(self, limits: Limits, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.replace(limits)

    def replace(self, limits: Limits) -> None:
        """Go on with other limits."""
        self.max_choices, self.answer_tokens = limits.max_choices, limits.answer_tokens
        defaults: dict[Scope, dict[Measure, int]] = {
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
        self._defaults = {scope: _own(given) for scope, given in defaults.items()}
        self._named = {
            scope: {name: _own({**defaults[scope], **_whole(own)}) for name, own in names.items()}
            for scope, names in named.items()
        }
        self._of_addresses = bool(limits.addresses or self._defaults["address"].limits)

    def counts_tokens(self, principal: Principal, address: str, model: str) -> bool:
        """Whether it matters how long a request is and what it may cost."""
        return (
            self._of("user", principal.subject).counts_tokens
            or self._of("tenant", principal.tenant).counts_tokens
            or self._of("model", model).counts_tokens
            or (principal.key is not None and self._of("key", principal.key).counts_tokens)
            or (self._of_addresses and self._of("address", site_of(address)).counts_tokens)
        )

    def checks(self, principal: Principal, address: str, use: Use | None) -> list[Check]:
        """The limits of a request; without `use`, those of one that is refused before it is known what it asks for."""
        amounts = _ONE_REQUEST if use is None else _amounts(use)
        tenant, now, found = principal.tenant, None, []
        for scope, name, limits in self._limited(principal, address, use.model if use else None):
            for measure, limit in limits:
                amount = amounts.get(measure)
                if not amount:
                    continue
                if KINDS[measure] != "budget":
                    found.append(Check(scope, name, measure, limit, amount, tenant=tenant))
                    continue
                now = now or self._now().astimezone(UTC)
                found.append(Check(scope, name, measure, limit, amount, *_window(measure, now), tenant=tenant))
        return found

    def _limited(self, principal: Principal, address: str, model: str | None) -> Iterator[tuple[Scope, str, _Limits]]:
        if self._of_addresses:
            site = site_of(address)
            yield "address", site, self._of("address", site).limits
        if principal.key is not None:
            own = self._of("key", principal.key)
            yield "key", principal.key, _carrying(own, principal.key_requests_per_minute)
        own = self._of("user", principal.subject)
        yield "user", f"{principal.tenant}/{principal.subject}", _carrying(own, principal.requests_per_minute)
        yield "tenant", principal.tenant, self._of("tenant", principal.tenant).limits
        if model is not None:
            yield "model", model, self._of("model", model).limits

    def _of(self, scope: Scope, name: str) -> _Own:
        return self._named[scope].get(name) or self._defaults[scope]


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


def _own(given: dict[Measure, int]) -> _Own:
    limits = _some(given)
    return _Own(given, limits, any(measure in TOKENS or measure is Measure.MONEY_PER_MONTH for measure, _ in limits))


def _some(given: dict[Measure, int]) -> _Limits:
    return tuple((measure, limit) for measure, limit in given.items() if limit)


def _carrying(own: _Own, requests_per_minute: int | None) -> _Limits:
    if requests_per_minute is None:
        return own.limits
    return _some({**own.given, Measure.REQUESTS_PER_MINUTE: requests_per_minute})


def _amounts(use: Use) -> dict[Measure, int]:
    return {
        Measure.REQUESTS_PER_MINUTE: 1,
        Measure.CONCURRENT: 1,
        Measure.TOKENS_PER_MINUTE: use.tokens,
        Measure.TOKENS_PER_DAY: use.tokens,
        Measure.MONEY_PER_MONTH: use.money,
    }


def _window(measure: Measure, now: datetime) -> tuple[str, float]:
    """The day or month of a budget by name, and the seconds until it ends."""
    if measure is Measure.TOKENS_PER_DAY:
        ends = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return f"{now:%Y-%m-%d}", (ends - now).total_seconds()
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ends = (first + timedelta(days=32)).replace(day=1)
    return f"{now:%Y-%m}", (ends - now).total_seconds()
