"""The outbox: alerts that are to be sent, one row for each receiver, in the database that all workers share.

The key of a row is what was crossed and who is told: however many workers see it, and however often they start, there is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.database import UtcDateTime, insert

rows: Final = Table(
    "alerts",
    MetaData(),
    Column("scope", String(16), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("measure", String(64), primary_key=True),
    Column("window", String(32), primary_key=True),
    Column("percent", Integer, primary_key=True, autoincrement=False),
    Column("receiver", String(64), primary_key=True),  # a digest of its URL
    Column("message", String(64), nullable=False),  # the id that receivers know it by
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_try", UtcDateTime),  # nothing is left to do where there is none
    Column("sent_at", UtcDateTime),
    Index("ix_alerts_receiver_next_try", "receiver", "next_try"),
)
_SIZES: Final = {column.name: column.type.length for column in rows.c if isinstance(column.type, String)}
_KEPT: Final = timedelta(days=100)  # longer than any window, or an alert would be sent again


class Crossing(NamedTuple):
    """So many percent of the budget that `measure` of `scope` `name` has in `window` are spent."""

    scope: str
    name: str
    measure: str
    window: str
    percent: int


@dataclass(frozen=True, slots=True)
class Letter:
    """What one receiver is told of a crossing of the time `at`; `tries` counts the one that it was taken for."""

    crossing: Crossing
    receiver: str
    message: str
    at: datetime
    body: str
    tries: int = 0


class Outbox:
    """Rows by receiver. Every method raises what the database raises while it is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put(self, letters: Iterable[Letter]) -> None:
        """Write letters down, due at once. One that is there already is left alone, sent or not."""
        # In one order everywhere: two workers that write the same ones would wait for each other.
        ordered = sorted(letters, key=lambda letter: (letter.crossing, letter.receiver))
        values = [_row(letter) for letter in ordered]
        if not values:
            return
        async with self._engine.begin() as connection:
            await connection.execute(insert(rows, self._engine.dialect).on_conflict_do_nothing(), values)

    async def take(self, receiver: str, now: datetime, lease: timedelta) -> Letter | None:
        """The letter that is due longest. Nobody else gets it before `lease` is over, by when it should have been sent."""
        due = (
            select(rows)
            .where(rows.c.receiver == receiver, rows.c.next_try <= now)
            .order_by(rows.c.next_try, rows.c.at, rows.c.percent)
            .limit(1)
        )
        while True:
            async with self._engine.connect() as connection:
                row = (await connection.execute(due)).mappings().first()
            if row is None:
                return None
            letter = _letter(dict(row))
            # Two transactions: in SQLite one that has read may not write when another worker was first.
            mine = and_(_is(letter), rows.c.tries == row["tries"], rows.c.next_try <= now)
            if await self._update(mine, tries=letter.tries, next_try=now + lease):
                return letter

    async def sent(self, letter: Letter, at: datetime) -> None:
        """The receiver has it."""
        await self._update(_is(letter), sent_at=at, next_try=None)

    async def again(self, letter: Letter, at: datetime | None) -> None:
        """The receiver did not take it: try again at `at`, or never."""
        await self._update(and_(_is(letter), rows.c.sent_at.is_(None)), next_try=at)

    async def forget(self, now: datetime) -> None:
        """Remove what belongs to windows long over."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(rows).where(rows.c.at < now - _KEPT))

    async def _update(self, condition: ColumnElement[bool], **values: Any) -> int:
        async with self._engine.begin() as connection:
            return (await connection.execute(update(rows).where(condition).values(**values))).rowcount


def fitting(crossing: Crossing) -> Crossing:
    """A crossing as the table takes it: what PostgreSQL refuses (NUL, half a character, too long) would hold up all others."""
    cut = {
        column: text.encode(errors="replace").decode().replace("\0", "")[: _SIZES[column]]
        for column, text in crossing._asdict().items()
        if column in _SIZES
    }
    return crossing._replace(**cut)


def _is(letter: Letter) -> ColumnElement[bool]:
    key = {**letter.crossing._asdict(), "receiver": letter.receiver}
    return and_(*(rows.c[column] == value for column, value in key.items()))


def _row(letter: Letter) -> dict[str, Any]:
    return {
        **letter.crossing._asdict(),
        "receiver": letter.receiver,
        "message": letter.message,
        "at": letter.at,
        "body": letter.body,
        "next_try": letter.at,
    }


def _letter(row: dict[str, Any]) -> Letter:
    crossing = Crossing(row["scope"], row["name"], row["measure"], row["window"], row["percent"])
    return Letter(crossing, row["receiver"], row["message"], row["at"], row["body"], row["tries"] + 1)
