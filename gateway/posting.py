"""Posting: lines of the journal into the ledger's table, in as few steps as the database's driver allows.

The statements are the drivers' own, with values as they are stored: SQLAlchemy would look at each value of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import String, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.database import utc
from gateway.money import units

# What a journal's line of before these columns says of them.
_EARLIER: Final = {"key": None, "busy_seconds": 0.0, "cost": "0", "avoided": "0"}


class Posting:
    """How rows get into `table` of a database of SQLAlchemy's `dialect`."""

    def __init__(self, table: Table, dialect: str) -> None:
        names = [column.name for column in table.c]
        columns = ", ".join(f'"{name}"' for name in names)
        self._sizes = [
            (column.name, column.type.length)
            for column in table.c
            if isinstance(column.type, String) and column.type.length is not None
        ]
        self._missing = {**dict.fromkeys(names), **_EARLIER}
        self._values: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(*names)
        self._sqlite = dialect == "sqlite"
        if self._sqlite:
            values = f"VALUES ({', '.join('?' * len(names))})"
        else:
            from sqlalchemy.dialects import postgresql  # 2 MB that SQLite does without

            spoken = postgresql.dialect()  # type: ignore[no-untyped-call]
            types = (column.type.compile(spoken) for column in table.c)
            arrays = (f"${place}::{kind}[]" for place, kind in enumerate(types, 1))
            values = f"SELECT * FROM unnest({', '.join(arrays)})"  # noqa: S608  # the table's own types
        self._statement = f"INSERT INTO {table.name} ({columns}) {values} ON CONFLICT DO NOTHING"

    def fitting(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """A line of a journal as the table takes it: no row may hold up all those behind it.

        PostgreSQL refuses a NUL and a text over the column's size. The line may be of an earlier version, or of a later one.
        """
        known = {**self._missing, **row}
        for name, size in self._sizes:
            text = known[name]
            if isinstance(text, str) and (len(text) > size or "\0" in text):
                known[name] = text.replace("\0", "")[:size]
        at = utc(datetime.fromisoformat(known["at"]))
        # SQLite has no dates: this is how SQLAlchemy writes one there, and reads it.
        known["at"] = at.isoformat(" ", "microseconds")[:26] if self._sqlite else at
        for name in ("cost", "avoided"):
            known[name] = 0 if known[name] == "0" else units(Decimal(known[name]))  # most have no price
        return self._values(known)

    async def insert(self, connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert fitting rows, of which there is at least one; a row that is there already is left alone."""
        if self._sqlite:
            await connection.exec_driver_sql(self._statement, list(rows))
        else:  # an array a column: one message and one step for the server, however many rows
            await connection.exec_driver_sql(self._statement, tuple(map(list, zip(*rows, strict=True))))
