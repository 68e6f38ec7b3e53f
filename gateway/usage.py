"""What was used and what it cost, summed up from the ledger; and whether a machine of one's own has paid for itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, String, case, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.database import translated
from gateway import money
from gateway.exchange import State
from gateway.ledger import rows
from gateway.target import Target

GROUPS: Final = ("day", "tenant", "user", "key", "model", "target")
_FINAL: Final = ("settle", "release")  # each exchange has one of them, its last row


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

    def bounds(self) -> tuple[datetime, datetime]:
        """Its first instant, and the first after it."""
        return tuple(datetime.combine(day, time(), UTC) for day in (self.since, self.until))  # type: ignore[return-value]

    def hours(self, now: datetime) -> Decimal:
        """How many of its hours have passed."""
        began, ended = self.bounds()
        seconds = max(0.0, (min(ended, max(began, now)) - began).total_seconds())
        return Decimal(str(seconds)) / 3600


@dataclass(frozen=True, slots=True)
class Usage:
    """The sums of one group. Tokens are those charged; `lost_tokens` were computed and charged to nobody."""

    group: dict[str, str | None]
    requests: int
    errors: int
    refusals: int
    cancelled: int
    regenerations: int
    fallbacks: int
    prompt_tokens: int
    completion_tokens: int
    lost_tokens: int
    gpu_hours: Decimal
    cost: Decimal
    avoided: Decimal


async def report(
    engine: AsyncEngine,
    period: Period,
    by: Sequence[str],
    *,
    tenant: str | None = None,
    subject: str | None = None,
) -> list[Usage]:
    """The sums for each group of `by` (of GROUPS), in their order; raises StoreUnavailable.

    The rows of a request are of its end: one that ends after midnight counts in the new day.
    """
    groups = [_group(engine.dialect.name, name).label(f"group_{name}") for name in by]
    began, ended = period.bounds()
    query = select(*groups, *_sums()).where(rows.c.at >= began, rows.c.at < ended).group_by(*groups).order_by(*groups)
    if tenant is not None:
        query = query.where(rows.c.tenant == tenant)
    if subject is not None:
        query = query.where(rows.c.subject == subject)
    with translated():
        async with engine.connect() as connection:
            found = (await connection.execute(query)).mappings().all()
    return [_usage(by, dict(row)) for row in found if row["requests"] is not None]


def _group(dialect: str, name: str) -> ColumnElement[Any]:
    if name == "day":
        if dialect == "sqlite":
            return func.date(rows.c.at, type_=String)
        return func.to_char(func.timezone("UTC", rows.c.at), "YYYY-MM-DD", type_=String)
    return rows.c["subject" if name == "user" else name]


def _sums() -> list[ColumnElement[Any]]:
    final, charged = rows.c.kind.in_(_FINAL), rows.c.kind == "settle"

    def counted(name: str, condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.sum(case((condition, 1), else_=0)).label(name)

    def tokens(name: str, condition: ColumnElement[bool], column: ColumnElement[Any]) -> ColumnElement[Any]:
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
        tokens("prompt_tokens", charged, rows.c.prompt_tokens),
        tokens("completion_tokens", charged, rows.c.completion_tokens),
        tokens("lost_tokens", ~charged, rows.c.prompt_tokens + rows.c.completion_tokens),
        func.sum(rows.c.busy_seconds).label("busy_seconds"),
        func.sum(rows.c.cost).label("cost"),
        func.sum(rows.c.avoided).label("avoided"),
    ]


def _usage(by: Sequence[str], row: dict[str, Any]) -> Usage:
    group = {name: row.pop(f"group_{name}") for name in by}
    hours = Decimal(str(row.pop("busy_seconds"))) / 3600
    whole = {name: int(value) for name, value in row.items() if name not in ("cost", "avoided")}
    return Usage(group, **whole, gpu_hours=hours.quantize(Decimal("1e-6")), cost=row["cost"], avoided=row["avoided"])


@dataclass(frozen=True, slots=True)
class Investment:
    """A period's return on machines of one's own: what was avoided, less what they cost and what the fallback cost.

    `utilisation` is the share of their hours in which they did something, `break_even` the share at which the return would be
    nought at the same saving for a busy hour; None where nothing was saved or nothing runs.
    """

    hours: Decimal
    gpu_hours: Decimal
    avoided: Decimal
    gpu: Decimal
    fallback: Decimal
    returned: Decimal
    utilisation: Decimal | None
    break_even: Decimal | None


def investment(by_target: Iterable[Usage], targets: dict[str, Target], hours: Decimal) -> Investment:
    """From sums by target, over so many hours in which each replica with a `price_per_hour` was switched on."""
    found = list(by_target)
    own = {name: target for name, target in targets.items() if target.price_per_hour is not None}
    gpu = sum((_hourly(target) * hours for target in own.values()), money.ZERO)
    machine_hours = sum((len(target.urls) * hours for target in own.values()), money.ZERO)
    busy = sum((row.gpu_hours for row in found if row.group["target"] in own), money.ZERO)
    outside = [row.cost for row in found if (known := targets.get(str(row.group["target"]))) and known.outside]
    avoided, fallback = sum((row.avoided for row in found), money.ZERO), sum(outside, money.ZERO)
    saved = avoided * machine_hours
    return Investment(
        hours=hours,
        gpu_hours=busy,
        avoided=avoided,
        gpu=gpu,
        fallback=fallback,
        returned=avoided - gpu - fallback,
        utilisation=busy / machine_hours if machine_hours else None,
        break_even=(gpu + fallback) * busy / saved if saved else None,
    )


def _hourly(target: Target) -> Decimal:
    return (target.price_per_hour or money.ZERO) * len(target.urls)


def flat(row: Usage) -> dict[str, Any]:
    """A row without nesting; amounts as text, which keeps every place."""
    values = {**row.group, **{key: value for key, value in asdict(row).items() if key != "group"}}
    return {key: _text(value) if isinstance(value, Decimal) else value for key, value in values.items()}


def as_csv(found: Iterable[Usage], by: Sequence[str]) -> str:
    """A table for spreadsheets (RFC 4180), with a line of names."""
    out = io.StringIO()
    names = [*by, *(field.name for field in fields(Usage) if field.name != "group")]
    table = csv.DictWriter(out, names)
    table.writeheader()
    table.writerows(map(_harmless, map(flat, found)))
    return out.getvalue()


def _harmless(row: dict[str, Any]) -> dict[str, Any]:
    # A name that begins like a formula is one to a spreadsheet (OWASP, "CSV Injection").
    return {
        key: f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1] else value
        for key, value in row.items()
    }


def _text(amount: Decimal) -> str:
    return f"{amount.normalize():f}" if amount else "0"
