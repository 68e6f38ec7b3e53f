"""Which limits a caller has, what the ledger knows of budgets, and what happens while it is silent."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from auth import Principal
from auth.errors import StoreUnavailable
from gateway.bounds import Limits, site_of
from gateway.errors import InsufficientQuota, LimitsUnavailable, RateLimited
from gateway.limits.checks import Check, Measure, Reservation
from gateway.limits.memory import Memory
from gateway.limits.policy import Policy, Use
from gateway.limits.quotas import Quotas
from tests.gateway.test_limits import Clock

NOW = datetime(2030, 12, 31, 23, 59, 30, tzinfo=UTC)
USE = Use("m", tokens=500, money=250)
AT = "192.0.2.7"


def principal(**more: Any) -> Principal:
    return Principal(**{"subject": "alice", "tenant": "acme", "scopes": frozenset({"chat"}), **more})


def checks(limits: dict[str, Any], use: Use | None = USE, who: Principal | None = None, at: str = AT) -> set[Any]:
    found = Policy(Limits(**{"requests_per_minute": 0, **limits}), lambda: NOW).checks(who or principal(), at, use)
    return {(check.scope, check.name, check.measure.value, check.limit, check.amount) for check in found}


ALL = {
    "requests_per_minute": 1,
    "tokens_per_minute": 2,
    "tokens_per_day": 3,
    "concurrent": 4,
    "money_per_month": Decimal("0.000000005"),
}


@pytest.mark.parametrize(
    ("table", "scope", "name"),
    [
        ({"address": ALL}, "address", AT),
        ({"key": ALL}, "key", "k"),
        (ALL, "user", "acme/alice"),
        ({"tenant": ALL}, "tenant", "acme"),
        ({"model": ALL}, "model", "m"),
        ({"addresses": {AT: ALL}}, "address", AT),
        ({"keys": {"k": ALL}}, "key", "k"),
        ({"users": {"alice": ALL}}, "user", "acme/alice"),
        ({"tenants": {"acme": ALL}}, "tenant", "acme"),
        ({"models": {"m": ALL}}, "model", "m"),
    ],
)
def test_each_kind_of_thing_has_each_kind_of_limit(table: dict[str, Any], scope: str, name: str) -> None:
    amounts = {
        "requests_per_minute": 1,
        "tokens_per_minute": 500,
        "tokens_per_day": 500,
        "concurrent": 1,
        "money_per_month": 250,
    }
    assert checks(table, who=principal(key="k")) == {
        (scope, name, measure, limit, amounts[measure])
        for (measure, amount), limit in zip(amounts.items(), (1, 2, 3, 4, 5), strict=True)
    }  # fmt: skip


def test_whoever_has_a_name_of_its_own_in_a_table_differs_in_what_is_given_there() -> None:
    tables = {"tenant": {"concurrent": 4, "tokens_per_day": 9}, "tenants": {"acme": {"concurrent": 0}}}
    assert checks(tables) == {("tenant", "acme", "tokens_per_day", 9, 500)}
    assert len(checks(tables, who=principal(tenant="other"))) == 2


def test_callers_and_keys_carry_limits_of_their_own() -> None:
    tables = {"requests_per_minute": 60, "key": {"requests_per_minute": 30}}
    assert checks(tables, who=principal(requests_per_minute=5, key="k", key_requests_per_minute=2)) == {
        ("user", "acme/alice", "requests_per_minute", 5, 1), ("key", "k", "requests_per_minute", 2, 1),
    }  # fmt: skip
    assert checks(tables, who=principal(requests_per_minute=0)) == set()


def test_a_request_that_nobody_can_read_is_a_request_and_costs_nothing_else() -> None:
    assert checks({**ALL, "model": ALL}, use=None) == {("user", "acme/alice", "requests_per_minute", 1, 1)}


def test_what_is_free_is_not_held_up_by_a_budget() -> None:
    assert checks({"money_per_month": 1}, use=Use("m", 500, 0)) == set()


def test_days_and_months_end_by_utc() -> None:
    policy = Policy(Limits(requests_per_minute=0, tokens_per_day=1, money_per_month=Decimal(1)), lambda: NOW)
    found = policy.checks(principal(), AT, USE)
    assert [(check.window, check.ends) for check in found] == [("2030-12-31", 30.0), ("2030-12", 30.0)]


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_a_site(address: str, site: str) -> None:
    assert site_of(address) == site


class Ledger:
    """Says what was spent, or nothing."""

    def __init__(self, *spent: int | Exception) -> None:
        self.spent, self.asked = list(spent), list[str]()

    async def __call__(self, check: Check) -> int:
        self.asked.append(check.key)
        word = self.spent.pop(0) if len(self.spent) > 1 else self.spent[0]
        if isinstance(word, Exception):
            raise word
        return word


def quotas(
    ledger: Callable[[Check], Awaitable[int]], limits: dict[str, Any], clock: Clock | None = None, **more: Any
) -> Quotas:
    clock = clock or Clock()
    policy = Policy(Limits(**{"requests_per_minute": 0, **limits}), lambda: NOW)
    return Quotas(Memory(clock), policy, ledger, clock=clock, **more)


async def test_a_budget_starts_from_the_ledger_which_is_asked_once() -> None:
    ledger = Ledger(700)
    made = quotas(ledger, {"tokens_per_day": 1200})
    assert (await made.reserve(principal(), AT, USE)).standings[0].left == 0
    with pytest.raises(RateLimited, match="limit 1200, used 1200, requested 500"):
        await made.reserve(principal(), AT, USE)
    assert ledger.asked == ["user:tokens_per_day:2030-12-31:acme/alice"]


async def test_a_budget_whose_counter_was_lost_starts_from_the_ledger_again() -> None:
    ledger = Ledger(0, 900)
    made = quotas(ledger, {"tokens_per_day": 1200})
    made.settle(await made.reserve(principal(), AT, USE), 500, Decimal(0))
    made.limiter = Memory()
    with pytest.raises(RateLimited, match="used 900"):
        await made.reserve(principal(), AT, USE)
    assert len(ledger.asked) == 2


async def test_addresses_are_not_in_the_ledger() -> None:
    ledger = Ledger(StoreUnavailable("away"))
    made = quotas(ledger, {"address": {"tokens_per_day": 1200}}, cached=False)
    assert (await made.reserve(principal(), AT, USE)).standings[0].left == 700
    assert ledger.asked == []


async def test_while_the_ledger_is_silent_the_counters_hold_and_it_is_asked_again_after_a_while() -> None:
    ledger, clock = Ledger(StoreUnavailable("away"), 600), Clock()
    made = quotas(ledger, {"tokens_per_day": 1200}, clock)
    made.settle(await made.reserve(principal(), AT, USE), 100, Decimal(0))
    assert (await made.reserve(principal(), AT, USE)).standings[0].left == 600
    assert len(ledger.asked) == 1
    clock.now += 5.1
    with pytest.raises(RateLimited, match="used 1100"):  # 600 by the ledger, 500 reserved
        await made.reserve(principal(), AT, USE)
    assert len(ledger.asked) == 2


async def test_or_nobody_with_a_budget_is_served_meanwhile() -> None:
    made = quotas(Ledger(StoreUnavailable("away")), {"users": {"alice": {"tokens_per_day": 9999}}}, cached=False)
    with pytest.raises(LimitsUnavailable) as caught:
        await made.reserve(principal(), AT, USE)
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "5")
    await made.reserve(principal(subject="bob"), AT, USE)


async def test_tokens_and_money_are_settled_each_in_its_own_unit() -> None:
    told: list[tuple[Measure, int]] = []
    made = quotas(Ledger(0), {"tokens_per_day": 1200, "money_per_month": 1, "concurrent": 1})
    made.limiter = Memory(spent=lambda check, spent: told.append((check.measure, spent)))
    for _ in range(2):
        made.settle(await made.reserve(principal(), AT, USE), 120, Decimal("0.0000001234"))
    assert told == [
        (Measure.TOKENS_PER_DAY, 120), (Measure.MONEY_PER_MONTH, 124),
        (Measure.TOKENS_PER_DAY, 240), (Measure.MONEY_PER_MONTH, 248),
    ]  # fmt: skip


async def test_a_spent_budget_is_told_of() -> None:
    told: list[tuple[Measure, int]] = []
    made = quotas(
        Ledger(900_000_000),
        {"money_per_month": 1},
        exhausted=lambda check, spent: told.append((check.measure, spent)),
    )
    with pytest.raises(InsufficientQuota):
        await made.reserve(principal(), AT, Use("m", 1, 200_000_000))
    assert told == [(Measure.MONEY_PER_MONTH, 900_000_000)]


async def test_a_request_for_very_much_says_nothing_about_the_budget() -> None:
    told: list[Check] = []
    made = quotas(Ledger(690_000_000), {"money_per_month": 1}, exhausted=lambda check, _: told.append(check))
    with pytest.raises(InsufficientQuota):
        await made.reserve(principal(), AT, Use("m", 1, 400_000_000))
    assert told == []


async def test_a_budget_that_was_none_for_a_while_starts_from_the_ledger_again() -> None:
    ledger = Ledger(0, 800)
    made = quotas(ledger, {"tokens_per_day": 1200})
    made.settle(await made.reserve(principal(), AT, USE), 100, Decimal(0))
    made.replace(Limits(requests_per_minute=0))
    made.settle(await made.reserve(principal(), AT, USE), 700, Decimal(0))  # counted by the ledger alone
    made.replace(Limits(requests_per_minute=0, tokens_per_day=1200))
    with pytest.raises(RateLimited, match="used 800"):
        await made.reserve(principal(), AT, USE)


async def refused(made: Quotas, who: Principal, times: int) -> Sequence[str]:
    for _ in range(times):
        await made.reserve(who, AT, None)
    with pytest.raises(RateLimited) as caught:
        await made.reserve(who, AT, None)
    return caught.value.headers["retry-after"]


async def test_whoever_was_told_to_wait_is_told_so_again_without_a_look_at_the_request() -> None:
    clock = Clock()
    made = quotas(Ledger(0), {"requests_per_minute": 6}, clock)
    made.hold_off(principal(), AT)
    assert await refused(made, principal(), 6) == "10"
    clock.now += 4
    with pytest.raises(RateLimited, match="Please try again in 6s") as caught:
        made.hold_off(principal(), AT)
    assert caught.value.headers == {
        "retry-after": "6", "x-ratelimit-limit-requests": "6", "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "56s",
    }  # fmt: skip
    made.hold_off(principal(subject="bob"), AT)
    clock.now += 6
    made.hold_off(principal(), AT)
    await made.reserve(principal(), AT, None)


async def test_the_limit_of_a_model_holds_nobody_off_who_asks_for_another() -> None:
    made = quotas(Ledger(0), {"models": {"m": {"requests_per_minute": 1}}})
    await made.reserve(principal(), AT, USE)
    with pytest.raises(RateLimited, match="for this model"):
        await made.reserve(principal(), AT, USE)
    made.hold_off(principal(), AT)
    await made.reserve(principal(), AT, Use("other", 1, 1))


async def test_other_limits_hold_at_once() -> None:
    clock = Clock()
    made = quotas(Ledger(0), {"requests_per_minute": 1}, clock)
    await refused(made, principal(), 1)
    made.replace(Limits(requests_per_minute=600))
    made.hold_off(principal(), AT)
    clock.now += 0.1
    assert (await made.reserve(principal(), AT, None)).standings[0].check.limit == 600


async def test_however_many_requests_wait_the_ledger_is_asked_once_about_a_budget() -> None:
    answer = asyncio.Event()
    asked: list[str] = []

    async def slow(check: Check) -> int:
        asked.append(check.key)
        await answer.wait()
        return 600

    made = quotas(slow, {"tokens_per_day": 10_000})
    waiting = [asyncio.create_task(made.reserve(principal(), AT, USE)) for _ in range(10)]
    while not asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiting[0].cancel()  # whoever leaves takes nothing from the others
    answer.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert asked == ["user:tokens_per_day:2030-12-31:acme/alice"]
    assert min(one.standings[0].left for one in done if isinstance(one, Reservation)) == 10_000 - 600 - 9 * 500
