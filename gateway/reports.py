"""A report of usage as it is shown: JSON, CSV, or a table for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.investment import Investment, investment
from gateway.money import Tariff
from gateway.target import Target
from gateway.usage import FIGURES, Group, Period, Usage, opened, report, total, usernames

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # how one begins in a spreadsheet (OWASP, "CSV Injection")
_SHORT: Final = {
    "prompt_tokens": "prompt", "completion_tokens": "answer", "lost_tokens": "lost", "regenerations": "again",
    "fallbacks": "failed", "gpu_hours": "gpu h",
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """`rows` by `by`; `investment` only where all of an installation is looked at; `notes` say what the sums leave out."""

    period: Period
    by: Sequence[Group]
    currency: str
    rows: list[Usage]
    investment: Investment | None
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """As JSON has it; amounts as texts, which keep every place."""
        shown: dict[str, Any] = {
            "object": "usage",
            "currency": self.currency,
            "since": self.period.since.isoformat(),
            "until": self.period.until.isoformat(),
            "by": list(self.by),
            "data": [_flat(row) for row in self.rows],
            "total": _flat(total(self.rows)),
            "notes": self.notes,
        }
        if self.investment is not None:
            shown["investment"] = {name: _plain(value) for name, value in asdict(self.investment).items()}
        return shown

    def csv(self) -> str:
        """A table for spreadsheets (RFC 4180), with a line of names."""
        out = io.StringIO()
        table = csv.DictWriter(out, [*self._groups(), *FIGURES])
        table.writeheader()
        table.writerows({name: _harmless(value) for name, value in _flat(row).items()} for row in self.rows)
        return out.getvalue()

    def table(self) -> str:
        """For a terminal: the rows, their sum, the notes, and the return on investment."""
        names = [*self._groups(), *FIGURES]
        body = [[_cell(row.get(name)) for name in names] for row in map(_flat, self.rows)]
        sums = _flat(total(self.rows))
        last = ["total", *[""] * (len(self._groups()) - 1)] if self.by else []
        lines = [[_SHORT.get(name, name) for name in names], *body, [*last, *(_cell(sums[name]) for name in FIGURES)]]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        left = len(self._groups())
        text = [
            "  ".join(
                cell.ljust(width) if column < left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        head = (
            f"Usage from {self.period.since} until the day before {self.period.until} (UTC), amounts in {self.currency}"
        )
        return "\n".join([head, "", *text, "", *self.notes, *self._returned()]).rstrip() + "\n"

    def _groups(self) -> list[str]:
        return [name for group in self.by for name in ((group, "username") if group == "user" else (group,))]

    def _returned(self) -> Iterator[str]:
        made = self.investment
        if made is None:
            return
        yield f"avoided {_cell(made.avoided)}, machines {_cell(made.gpu)} ({_cell(made.hours)} h), others {_cell(made.fallback)}"
        yield f"return on investment: {_cell(made.returned)} {self.currency}"
        if made.utilisation is not None:
            yield f"the machines did something in {made.utilisation:.1%} of their hours"
        if made.break_even is not None:
            reached = "" if made.break_even <= 1 else ", which no machine can reach: at these prices they do not pay"
            yield f"at this saving they pay for themselves from {made.break_even:.1%} on{reached}"


async def make(
    engine: AsyncEngine,
    tariff: Tariff,
    period: Period,
    by: Sequence[Group],
    now: datetime,
    *,
    tenant: str | None = None,
    subject: str | None = None,
) -> Report:
    """The usage of all, of a tenant, or of one caller of a tenant; raises StoreUnavailable."""
    by = list(dict.fromkeys(by))
    found = await report(engine, period, by, tenant=tenant, subject=subject)
    by_target = found if by == ["target"] else await report(engine, period, ["target"], tenant=tenant, subject=subject)
    if "user" in by:
        names = await usernames(engine, (row.group["user"] or "" for row in found))
        found = [replace(row, group={**row.group, "username": names.get(row.group["user"] or "")}) for row in found]
    whole = tenant is None and subject is None
    made = investment(by_target, tariff.targets, period.hours(now, await opened(engine))) if whole else None
    return Report(period, by, tariff.currency, found, made, list(_notes(by_target, tariff)))


def _notes(by_target: Sequence[Usage], tariff: Tariff) -> Iterator[str]:
    asked = {row.group["target"] or "" for row in by_target if row.prompt_tokens or row.lost_tokens} - {""}
    if unpriced := sorted(name for name in asked if _free(tariff.targets, name)):
        yield f"{', '.join(unpriced)}: without price or price_per_hour, so nothing of it is in the cost."
    if unknown := sorted(asked - set(tariff.targets)):
        yield f"{', '.join(unknown)}: no longer configured, so the hours of its machines are not in the return."
    if tariff.reference is None and asked:
        yield "money.reference names no target with a price, so nothing counts as avoided."


def _free(targets: Mapping[str, Target], name: str) -> bool:
    return name in targets and targets[name].price is None and targets[name].price_per_hour is None


def _flat(row: Usage) -> dict[str, Any]:
    figures = {field.name: _plain(getattr(row, field.name)) for field in fields(row) if field.name != "group"}
    return {**row.group, **figures}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value else "0"
    return value


def _cell(value: Any) -> str:
    text = str(_plain(value)) if value is not None else "-"
    whole, point, places = text.partition(".")
    return f"{whole}.{places[:6]}".rstrip("0").rstrip(".") if point and whole.lstrip("-").isdigit() else text


def _harmless(value: Any) -> Any:
    # A negative number is one; a name that begins like a formula is none.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
