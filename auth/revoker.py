"""Taking tokens back (RFC 7009)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Actor, record
from auth.credentials import KEY_PREFIX, Sealer
from auth.database import translated
from auth.errors import InvalidToken
from auth.keys import KeyStore
from auth.revocations import revoke
from auth.sessions import PREFIX, SessionStore
from auth.tokens import Tokens


@dataclass(frozen=True)
class Revoker:
    """Whoever holds a token may take it back: it is no use to a thief that he could not have otherwise.

    `now` gives seconds since 1970.
    """

    engine: AsyncEngine
    sessions: SessionStore
    keys: KeyStore
    sealer: Sealer
    tokens: Tokens
    now: Callable[[], float] = time.time

    async def revoke(self, token: str, by: Actor) -> None:
        """Void a refresh token with its login, an access token, or an API key; any other text is void already.

        Raises StoreUnavailable.
        """
        if token.startswith(PREFIX):
            await self.sessions.end(token, by)
        elif token.startswith(KEY_PREFIX):
            row = await self.keys.holder(self.sealer.seal(token))
            if row is not None:
                await self.keys.revoke(row["id"], replace(by, subject=row["owner"] or row["id"], tenant=row["tenant"]))
        else:
            await self._access(token, by)

    async def _access(self, token: str, by: Actor) -> None:
        try:
            claims = self.tokens.verify(token)
        except InvalidToken:
            return
        holder = claims.principal
        by, now = replace(by, subject=holder.subject, tenant=holder.tenant), self.now()
        with translated():
            async with self.engine.begin() as connection:
                await revoke(connection, claims.token_id, now)
                await record(connection, by, now, "token.revoked", holder.tenant, f"{holder.kind}:{holder.subject}")
