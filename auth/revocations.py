"""What has been taken back before its time. Every worker reads the list every few seconds; no token is asked for one by one."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.database import insert, translated
from auth.tables import revocations, tenants

MAX_TOKEN_S: Final = 86_400  # the longest life that an access token may be given


async def revoke(connection: AsyncConnection, revoked: str, now: float, generation: int = 0) -> None:
    """Void a token or a login by its `jti` or `sid`, or the tokens of a subject that are of an earlier generation."""
    expires = datetime.fromtimestamp(now + MAX_TOKEN_S, UTC)
    row = insert(revocations, connection.dialect).values(id=revoked, generation=generation, expires_at=expires)
    newer = {"generation": generation, "expires_at": expires}
    await connection.execute(row.on_conflict_do_update(index_elements=[revocations.c.id], set_=newer))


class Revocations:
    """The list as this worker last read it. While the database is away the last one holds."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._engine, self._now = engine, now
        self._generations: dict[str, int] = {}
        self._tenants: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Read the list anew; raises StoreUnavailable."""
        current = select(revocations.c.id, revocations.c.generation).where(
            revocations.c.expires_at > datetime.fromtimestamp(self._now(), UTC)
        )
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(current)).all()
                closed = (await connection.execute(select(tenants.c.name).where(tenants.c.disabled))).scalars().all()
        self._generations, self._tenants = {row.id: row.generation for row in rows}, frozenset(closed)

    async def forget(self) -> None:
        """Delete the rows whose tokens have all expired; raises StoreUnavailable."""
        with translated():
            async with self._engine.begin() as connection:
                expired = revocations.c.expires_at <= datetime.fromtimestamp(self._now(), UTC)
                await connection.execute(delete(revocations).where(expired))

    def token(self, token_id: str, session: str | None, subject: str, generation: int) -> bool:
        """Whether a token is void: itself, with its login, or with all of its subject's from before a change of rights."""
        known = self._generations
        if not known:
            return False
        return token_id in known or session in known or known.get(subject, 0) > generation

    def tenant(self, name: str) -> bool:
        """Whether the tenant is closed."""
        return name in self._tenants
