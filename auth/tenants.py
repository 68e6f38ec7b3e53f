"""Tenants: whose data is whose. One that is closed is let in nowhere; its rows stay."""

import builtins
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.audit import SYSTEM, Actor, record
from auth.database import insert, translated
from auth.errors import InvalidName, NameTaken, TenantClosed, UnknownTenant
from auth.principal import HOUSE
from auth.tables import tenants

_LONGEST: Final = 255  # characters


@dataclass(frozen=True, slots=True)
class Tenant:
    """One row; `created_at` is in UTC."""

    name: str
    disabled: bool
    created_at: datetime


class TenantStore:
    """Tenants by name. Every method raises StoreUnavailable when the database does not answer."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._engine, self._now = engine, now

    async def add(self, name: str, by: Actor = SYSTEM) -> Tenant:
        """Add a tenant; raises NameTaken or InvalidName."""
        with translated():
            async with self._engine.begin() as connection:
                if not await ensure(connection, name, by, self._now()):
                    raise NameTaken(f"There is already a tenant named {name!r}.")
        return (await self._of(name))[0]

    async def known(self, names: Iterable[str]) -> None:
        """Add those of the configuration that are not there, closed ones left as they are; raises InvalidName."""
        with translated():
            async with self._engine.begin() as connection:
                for name in sorted(names):
                    await ensure(connection, name, SYSTEM, self._now(), closed=True)

    async def list(self, only: str | None = None) -> builtins.list[Tenant]:
        """All tenants, or only the one named, by name."""
        return await self._of(only)

    async def change(self, name: str, *, disabled: bool, by: Actor = SYSTEM) -> Tenant:
        """Close a tenant or open it again; raises UnknownTenant, or InvalidName for the house's own."""
        if name == HOUSE and disabled:
            raise InvalidName(f"The tenant {HOUSE!r} is the installation's own and cannot be disabled.")
        with translated():
            async with self._engine.begin() as connection:
                changed = update(tenants).where(tenants.c.name == name).values(disabled=disabled)
                if (await connection.execute(changed)).rowcount == 0:
                    raise UnknownTenant("There is no tenant of that name.")
                await record(connection, by, self._now(), "tenant.changed", name, f"tenant:{name}", disabled=disabled)
        return (await self._of(name))[0]

    async def _of(self, name: str | None) -> builtins.list[Tenant]:
        query = select(tenants).order_by(tenants.c.name)
        if name is not None:
            query = query.where(tenants.c.name == name)
        with translated():
            async with self._engine.connect() as connection:
                return [Tenant(**row) for row in (await connection.execute(query)).mappings()]


def check_name(name: str, most: int, whose: str) -> None:
    """Raise InvalidName unless a name has 1 to `most` printable characters; `whose` begins the sentence."""
    if not 1 <= len(name) <= most or not name.isprintable():
        raise InvalidName(f"{whose}'s name has 1 to {most} printable characters.")


async def ensure(connection: AsyncConnection, name: str, by: Actor, now: float, *, closed: bool = False) -> bool:
    """Add a tenant unless it is there; whether it was new.

    Raises InvalidName, or TenantClosed for a disabled one unless it may be `closed`.
    """
    check_name(name, _LONGEST, "A tenant")
    row = insert(tenants, connection.dialect).values(
        name=name, disabled=False, created_at=datetime.fromtimestamp(now, UTC)
    )
    added = (await connection.execute(row.on_conflict_do_nothing())).rowcount == 1
    if added:
        await record(connection, by, now, "tenant.added", name, f"tenant:{name}")
    elif not closed and (await connection.execute(select(tenants.c.disabled).where(tenants.c.name == name))).scalar():
        raise TenantClosed(f"The tenant {name!r} is disabled: enable it first.")
    return added
