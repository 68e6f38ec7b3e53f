"""Who changed a right, what, when and from where: rows that are written in the transaction of the change itself."""

import getpass
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.database import translated
from auth.principal import HOUSE
from auth.tables import audit


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a subject of a tenant, at an address, in a request."""

    subject: str
    tenant: str
    address: str = "local"
    request_id: str | None = None


SYSTEM: Final = Actor("system", HOUSE)


def of_command() -> Actor:
    """Whoever runs a command on this machine."""
    return Actor(f"command of {getpass.getuser()}", HOUSE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row; `at` is in UTC, `object` what was changed, as `kind:id`, `detail` what of it."""

    id: int
    at: datetime
    actor: str
    actor_tenant: str
    address: str
    request_id: str | None
    action: str
    tenant: str
    object: str
    detail: dict[str, Any]


async def record(
    connection: AsyncConnection, by: Actor, at: float, action: str, tenant: str, target: str, **detail: object
) -> None:
    """Write a row in the transaction under way; `at` in seconds since 1970, `detail` without secrets."""
    row = {
        "at": datetime.fromtimestamp(at, UTC),
        "actor": by.subject[:255],
        "actor_tenant": by.tenant,
        "address": by.address[:64],
        "request_id": by.request_id,
        "action": action,
        "tenant": tenant,
        "object": target[:255],
        "detail": json.dumps(detail, default=_plain, ensure_ascii=False),
    }
    await connection.execute(insert(audit).values(row))


async def entries(engine: AsyncEngine, tenant: str | None, before: int | None, limit: int) -> list[Entry]:
    """The newest rows about a tenant, or about all with None, of those older than the row `before`."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(audit.c.tenant == tenant)
    if before is not None:
        query = query.where(audit.c.id < before)
    with translated():
        async with engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
    return [Entry(**{**row, "detail": json.loads(row["detail"])}) for row in rows]


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
