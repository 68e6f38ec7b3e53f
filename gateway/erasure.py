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
    """Delete all rows of a tenant, or of one of its users, clients or keys; how many there were. Raises StoreUnavailable.

    Alerts that name them go too.
    """
    of, what = _of(tenant, subject), f"tenant:{tenant}" if subject is None else f"subject:{subject}"
    if not await count(engine, tenant, subject):
        return 0
    await _forget_alerts(engine, tenant, subject)
    return await _delete(engine, of, by, "ledger.forgotten", tenant, what)


async def count(engine: AsyncEngine, tenant: str, subject: str | None) -> int:
    """How many rows `forget` would delete."""
    query = select(func.count()).select_from(rows).where(_of(tenant, subject))
    with translated():
        async with engine.connect() as connection:
            return int((await connection.execute(query)).scalar_one())


def _of(tenant: str, subject: str | None) -> ColumnElement[bool]:
    of = rows.c.tenant == tenant
    return of if subject is None else of & ((rows.c.subject == subject) | (rows.c.key == subject))


async def _forget_alerts(engine: AsyncEngine, tenant: str, subject: str | None) -> None:
    name = f"{tenant}/"
    keys = select(rows.c.key).where(_of(tenant, subject), rows.c.key.is_not(None))
    which = (alerts.c.scope == "key") & alerts.c.name.in_(keys)
    if subject is None:
        which |= (alerts.c.scope == "user") & (func.substr(alerts.c.name, 1, len(name)) == name)
        which |= (alerts.c.scope == "tenant") & (alerts.c.name == tenant)
    else:
        which |= (alerts.c.scope == "user") & (alerts.c.name == f"{name}{subject}")
    with translated():
        async with engine.begin() as connection:
            await connection.execute(delete(alerts).where(which))


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
