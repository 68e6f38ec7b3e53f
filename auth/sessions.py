"""Logins that last: refresh tokens that are used once (RFC 6749 §6, RFC 9700 §4.14.2).

Each use gives the next token of the family. A token that comes a second time was stolen from one of the two who used it, and
nobody can tell from whom: the whole family ends, its access tokens too.
"""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import RowMapping, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.audit import Actor, record
from auth.credentials import digest, new_secret
from auth.database import translated
from auth.errors import InvalidGrant
from auth.revocations import revoke
from auth.store import User
from auth.tables import refresh_tokens, sessions, tenants, users

PREFIX: Final = "psr_"
_REFUSED: Final = "The refresh token is wrong, expired, revoked or already used: log in again."


class Renewal(NamedTuple):
    """A login that goes on: whose, under which id, with which scopes, and the next refresh token."""

    user_id: str
    session: str
    scopes: frozenset[str]
    token: str


class SessionStore:
    """Every method raises StoreUnavailable when the database does not answer."""

    def __init__(self, engine: AsyncEngine, lifetime_s: int, now: Callable[[], float] = time.time) -> None:
        """`lifetime_s`: how long after its login a family ends, whatever its use."""
        self._engine, self._lifetime, self._now = engine, timedelta(seconds=lifetime_s), now

    async def open(self, user: User, scopes: frozenset[str]) -> tuple[str, str]:
        """Begin a family: its id and its first refresh token."""
        session, token, now = str(uuid.uuid4()), new_secret(PREFIX), self._utc()
        row = {
            "id": session,
            "user_id": user.id,
            "scopes": " ".join(sorted(scopes)),
            "created_at": now,
            "expires_at": now + self._lifetime,
        }
        with translated():
            async with self._engine.begin() as connection:
                await connection.execute(insert(sessions).values(row))
                await self._give(connection, session, token)
        return session, token

    async def renew(self, token: str, by: Actor) -> Renewal:
        """Exchange a refresh token for the next one; raises InvalidGrant.

        A token that was used before ends its family: an audit row says so.
        """
        following = None
        with translated():
            async with self._engine.begin() as connection:
                # The first to mark it has it: of two at the same instant the other one finds no row.
                unused = (refresh_tokens.c.digest == digest(token)) & refresh_tokens.c.used_at.is_(None)
                mark = update(refresh_tokens).where(unused).values(used_at=self._utc())
                fresh = (await connection.execute(mark)).rowcount == 1
                row = (await connection.execute(_family(token))).mappings().first()
                if row is not None and not fresh and row["ended_at"] is None:
                    await self._end(connection, row["id"], row["tenant"], by, "session.reused", row["user_id"])
                elif row is not None and fresh and self._goes_on(row):
                    following = new_secret(PREFIX)
                    await self._give(connection, row["id"], following)
        if row is None or following is None:  # raised out here: an exception inside would undo the ending
            raise InvalidGrant(_REFUSED)
        return Renewal(row["user_id"], row["id"], frozenset(row["scopes"].split()), following)

    async def scopes(self, token: str) -> frozenset[str]:
        """What a refresh token can be exchanged for now, whether or not it still can; nothing for an unknown one."""
        with translated():
            async with self._engine.connect() as connection:
                row = (await connection.execute(_family(token))).mappings().first()
        return frozenset(row["scopes"].split()) & frozenset(row["user_scopes"].split()) if row else frozenset()

    async def end(self, token: str, by: Actor) -> bool:
        """End the family of a refresh token, used or not; whether there was one under way."""
        with translated():
            async with self._engine.begin() as connection:
                row = (await connection.execute(_family(token))).mappings().first()
                if row is None or row["ended_at"] is not None:
                    return False
                await self._end(connection, row["id"], row["tenant"], by, "session.revoked", row["user_id"])
        return True

    async def forget(self) -> None:
        """Delete the families that have expired."""
        with translated():
            async with self._engine.begin() as connection:
                await connection.execute(delete(sessions).where(sessions.c.expires_at <= self._utc()))

    def _goes_on(self, row: RowMapping) -> bool:
        return row["ended_at"] is None and row["expires_at"] > self._utc() and not row["disabled"]

    async def _give(self, connection: AsyncConnection, session: str, token: str) -> None:
        row = {"digest": digest(token), "session_id": session, "created_at": self._utc()}
        await connection.execute(insert(refresh_tokens).values(row))

    async def _end(
        self, connection: AsyncConnection, session: str, tenant: str, by: Actor, action: str, user_id: str
    ) -> None:
        await connection.execute(update(sessions).where(sessions.c.id == session).values(ended_at=self._utc()))
        await revoke(connection, session, self._now())
        await record(connection, by, self._now(), action, tenant, f"user:{user_id}", session=session)

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)


def _family(token: str) -> Select[Any]:
    """The login a token belongs to, its user's tenant, and whether either is disabled."""
    closed = (users.c.disabled | func.coalesce(tenants.c.disabled, False)).label("disabled")
    return (
        select(sessions, users.c.tenant, users.c.scopes.label("user_scopes"), closed)
        .join(refresh_tokens, refresh_tokens.c.session_id == sessions.c.id)
        .join(users, users.c.id == sessions.c.user_id)
        .outerjoin(tenants, tenants.c.name == users.c.tenant)
        .where(refresh_tokens.c.digest == digest(token))
    )
