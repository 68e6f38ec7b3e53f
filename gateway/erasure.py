"""Rows of the ledger that may or must go: old ones, and those of a tenant or of one person (GDPR, article 17).

Each leaves a row in the audit that says how many went, and nothing of what they held.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Actor, record
from auth.database import translated
from auth.principal import HOUSE
from gateway.ledger import rows
from gateway.outbox import rows as alerts

_AT_ONCE: Final = 5_000  # rows in a transaction: whoever writes meanwhile does not wait for long


async def trim(engine: AsyncEngine, before: datetime, by: Actor) -> int:
    """Delete all rows of before a time; how many there were. Raises StoreUnavailable."""
    return await _delete(engine, rows.c.at < before, by, "ledger.trimmed", HOUSE, f"before:{before:%Y-%m-%d}")


async def forget(engine: AsyncEngine, tenant: str, subject: str | None, by: Actor) -> int:
    """Delete all rows of a tenant, or of one of its users, clients or keys; how many there were. Raises StoreUnavailable."""
    of, what = rows.c.tenant == tenant, f"tenant:{tenant}"
    if subject is not None:
        of, what = of & (rows.c.subject == subject), f"subject:{subject}"
    await _forget_alerts(engine, tenant, subject)
    return await _delete(engine, of, by, "ledger.forgotten", tenant, what)


async def _forget_alerts(engine: AsyncEngine, tenant: str, subject: str | None) -> None:
    """Those of single keys go by themselves, when their time is over."""
    of_users, name = alerts.c.scope == "user", f"{tenant}/"
    which = of_users & (alerts.c.name == f"{name}{subject}")
    if subject is None:
        every = of_users & (func.substr(alerts.c.name, 1, len(name)) == name)
        which = every | ((alerts.c.scope == "tenant") & (alerts.c.name == tenant))
    with translated():
        async with engine.begin() as connection:
            await connection.execute(delete(alerts).where(which))


async def count(engine: AsyncEngine, tenant: str, subject: str | None) -> int:
    """How many rows `forget` would delete."""
    query = select(func.count()).select_from(rows).where(rows.c.tenant == tenant)
    if subject is not None:
        query = query.where(rows.c.subject == subject)
    with translated():
        async with engine.connect() as connection:
            return int((await connection.execute(query)).scalar_one())


async def _delete(
    engine: AsyncEngine, which: ColumnElement[bool], by: Actor, action: str, tenant: str, what: str
) -> int:
    key: Any = tuple_(rows.c.exchange_id, rows.c.sequence)
    some = delete(rows).where(key.in_(select(rows.c.exchange_id, rows.c.sequence).where(which).limit(_AT_ONCE)))
    gone, last = 0, _AT_ONCE
    while last == _AT_ONCE:
        with translated():
            async with engine.begin() as connection:
                last = (await connection.execute(some)).rowcount
                gone += last
                if last < _AT_ONCE:
                    await record(connection, by, time.time(), action, tenant, what, rows=gone)
    return gone
