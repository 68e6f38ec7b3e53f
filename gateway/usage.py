"""What was used and what it cost, summed up from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, ColumnElement, String, case, func, select, true, type_coerce
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.database import translated
from auth.tables import users
from gateway.exchange import State
from gateway.ledger import CHARGED, RESERVE, rows
from gateway.money import UNIT, ZERO

Group = Literal["day", "tenant", "user", "key", "model", "target"]

_FINAL: Final = (CHARGED, "release")  # each exchange has one of them, its last row
_HOURS: Final = Decimal("1e-6")  # to which hours are rounded
_MONEY: Final = ("charged", "cost", "avoided")
_PART: Final = 10**6  # amounts are summed in two parts: SQLite's sums end at 2^63 units, nine millions of money
_AT_ONCE: Final = 500  # names asked for in one query


@dataclass(frozen=True, slots=True)
class Period:
    """Days of UTC, from `since` until the day before `until`."""

    since: date
    until: date

    @classmethod
    def this_month(cls, now: datetime) -> Period:
        """From the first of the month to the end of today."""
        today = now.astimezone(UTC).date()
        return cls(today.replace(day=1), today + timedelta(days=1))

    @classmethod
    def of_month(cls, first: date) -> Period:
        """The month that begins on a day."""
        return cls(first, (first + timedelta(days=32)).replace(day=1))

    def bounds(self) -> tuple[datetime, datetime]:
        """Its first instant, and the first after it."""
        began, ended = (datetime.combine(day, time(), UTC) for day in (self.since, self.until))
        return began, ended

    def hours(self, now: datetime, opened: datetime | None) -> Decimal:
        """How many of its hours have passed since there was an installation: `opened` is when its first request ended."""
        began, ended = self.bounds()
        began = max(began, opened or now)
        seconds = max(0.0, (min(ended, max(began, now)) - began).total_seconds())
        return Decimal(str(seconds)) / 3600


@dataclass(frozen=True, slots=True)
class Usage:
    """The sums of one group.

    `prompt_tokens`, `completion_tokens` and `charged` are what callers are charged for, `lost_tokens` were computed and thrown
    away. `cost` is what all of it cost, `avoided` what the charged tokens of our own targets would have cost at the reference.
    """

    group: dict[str, str | None]
    requests: int = 0
    errors: int = 0
    refusals: int = 0
    cancelled: int = 0
    regenerations: int = 0
    fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lost_tokens: int = 0
    gpu_hours: Decimal = ZERO
    charged: Decimal = ZERO
    cost: Decimal = ZERO
    avoided: Decimal = ZERO


FIGURES: Final = tuple(field.name for field in fields(Usage) if field.name != "group")


def total(found: Iterable[Usage]) -> Usage:
    """The sum of all groups."""
    found = list(found)
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in found) for name in FIGURES} if found else {}
    return Usage({}, **sums)


async def report(
    engine: AsyncEngine,
    period: Period,
    by: Sequence[Group],
    *,
    tenant: str | None = None,
    subject: str | None = None,
) -> list[Usage]:
    """The sums for each group of `by`, in their order; raises StoreUnavailable.

    The rows of a request are of its end: one that ends after midnight counts in the new day.
    """
    groups = [_group(engine.dialect.name, name).label(f"group_{name}") for name in by]
    began, ended = period.bounds()
    within = (rows.c.at >= began, rows.c.at < ended, rows.c.kind != RESERVE)
    query = select(*groups, *_sums()).where(*within).group_by(*groups)
    if tenant is not None:
        query = query.where(rows.c.tenant == tenant)
    if subject is not None:
        query = query.where(rows.c.subject == subject)
    with translated():
        async with engine.connect() as connection:
            found = (await connection.execute(query)).mappings().all()
    told = [_usage(by, dict(row)) for row in found if row["requests"] is not None]
    return sorted(told, key=lambda row: [value or "" for value in row.group.values()])  # the same on every database


async def opened(engine: AsyncEngine) -> datetime | None:
    """When the first request that is known ended; raises StoreUnavailable."""
    with translated():
        async with engine.connect() as connection:
            found: datetime | None = (await connection.execute(select(func.min(rows.c.at)))).scalar_one()
    return found


async def usernames(engine: AsyncEngine, ids: Iterable[str]) -> dict[str, str]:
    """The names of those that are users; raises StoreUnavailable."""
    wanted, found = sorted(set(ids)), dict[str, str]()
    with translated():
        async with engine.connect() as connection:
            for begin in range(0, len(wanted), _AT_ONCE):
                some = users.c.id.in_(wanted[begin : begin + _AT_ONCE])
                found |= {
                    row.id: row.username
                    for row in await connection.execute(select(users.c.id, users.c.username).where(some))
                }
    return found


def _group(dialect: str, name: Group) -> ColumnElement[Any]:
    if name == "day":
        if dialect == "sqlite":
            return func.date(rows.c.at, type_=String)
        return func.to_char(func.timezone("UTC", rows.c.at), "YYYY-MM-DD", type_=String)
    return rows.c["subject" if name == "user" else name]


def _sums() -> list[ColumnElement[Any]]:
    final, charged = rows.c.kind.in_(_FINAL), rows.c.kind == CHARGED

    def counted(name: str, condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.sum(case((condition, 1), else_=0)).label(name)

    def summed(name: str, condition: ColumnElement[bool], column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.sum(case((condition, column), else_=0)).label(name)

    def ended(*states: State) -> ColumnElement[bool]:
        return final & rows.c.state.in_([state.value for state in states])

    return [
        counted("requests", final),
        counted("errors", ended(State.FAILED, State.TRUNCATED)),
        counted("refusals", ended(State.REFUSED, State.BLOCKED)),
        counted("cancelled", ended(State.CLIENT_CLOSED)),
        counted("regenerations", rows.c.kind == "regeneration"),
        counted("fallbacks", rows.c.kind == "fallback"),
        summed("prompt_tokens", charged, rows.c.prompt_tokens),
        summed("completion_tokens", charged, rows.c.completion_tokens),
        summed("lost_tokens", ~charged, rows.c.prompt_tokens + rows.c.completion_tokens),
        func.sum(rows.c.busy_seconds).label("busy_seconds"),
        *_amount("charged", rows.c.cost, charged),
        *_amount("cost", rows.c.cost, true()),
        *_amount("avoided", rows.c.avoided, true()),
    ]


def _amount(name: str, column: ColumnElement[Any], condition: ColumnElement[bool]) -> list[ColumnElement[Any]]:
    units = case((condition, type_coerce(column, BigInteger)), else_=0)
    return [func.sum(units // _PART).label(f"{name}_high"), func.sum(units % _PART).label(f"{name}_low")]


def _usage(by: Sequence[Group], row: dict[str, Any]) -> Usage:
    group: dict[str, str | None] = {name: row.pop(f"group_{name}") for name in by}
    values: dict[str, Any] = {"gpu_hours": (Decimal(str(row.pop("busy_seconds"))) / 3600).quantize(_HOURS)}
    for name in _MONEY:
        values[name] = (int(row.pop(f"{name}_high")) * _PART + int(row.pop(f"{name}_low"))) * UNIT
    values |= {name: int(value) for name, value in row.items()}
    return Usage(group, **values)
