"""Service clients: programs that get tokens for themselves, by the client credentials grant (RFC 6749 §4.4)."""

import builtins
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, Select, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SYSTEM, Actor, record
from auth.credentials import Sealer, new_secret
from auth.database import translated
from auth.errors import InvalidClient, NameTaken, UnknownClient
from auth.revocations import revoke
from auth.rights import Grant
from auth.tables import MAX_NAME, clients, tenants
from auth.tenants import check_name, ensure

SECRET_PREFIX = "pss_"  # noqa: S105  # how a secret begins is none
_NOBODY = "0" * 64
_ID = re.compile("[0-9a-f-]{36}")


@dataclass(frozen=True, slots=True)
class Client:
    """One row; `id` is the client_id, `created_at` is in UTC, `generation` as a user's."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[str]
    may_leave: bool
    requests_per_minute: int | None
    disabled: bool
    created_at: datetime
    generation: int


class ClientStore:
    """Clients by id. Every method raises StoreUnavailable when the database does not answer."""

    def __init__(self, engine: AsyncEngine, sealer: Sealer, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._engine, self._sealer, self._now = engine, sealer, now

    async def add(
        self,
        name: str,
        rights: Grant,
        *,
        tenant: str,
        by: Actor = SYSTEM,
    ) -> tuple[Client, str]:
        """Make a client: its row, and its secret, which cannot be had again. Raises NameTaken, InvalidName or TenantClosed."""
        check_name(name, MAX_NAME, "A client")
        secret = new_secret(SECRET_PREFIX)
        row = {
            "id": str(uuid.uuid4()),
            "name": name,
            "secret_digest": self._sealer.seal(secret),
            "tenant": tenant,
            "scopes": " ".join(sorted(rights.scopes or ())),
            "may_leave": rights.may_leave,
            "requests_per_minute": rights.requests_per_minute,
            "disabled": False,
            "created_at": datetime.fromtimestamp(self._now(), UTC),
            "generation": 0,
        }
        granted = {name: row[name] for name in ("name", "scopes", "may_leave", "requests_per_minute")}
        try:
            with translated():
                async with self._engine.begin() as connection:
                    await ensure(connection, tenant, by, self._now())
                    await connection.execute(insert(clients).values(row))
                    await record(connection, by, self._now(), "client.added", tenant, f"client:{row['id']}", **granted)
        except IntegrityError as error:
            raise NameTaken(f"There is already a client named {name!r} in this tenant.") from error
        return await self.get(str(row["id"])), secret

    async def get(self, client_id: str) -> Client:
        """Find a client; raises UnknownClient."""
        found = await self._all(select(clients).where(clients.c.id == client_id))
        if not found:
            raise UnknownClient("There is no client of that id.")
        return found[0]

    async def list(self, tenant: str | None = None, after: str = "", limit: int | None = None) -> builtins.list[Client]:
        """The clients of a tenant, or all, in the order of ids; `limit` of them that come after the id `after`."""
        query = select(clients).where(clients.c.id > after).order_by(clients.c.id).limit(limit)
        return await self._all(query if tenant is None else query.where(clients.c.tenant == tenant))

    async def authenticate(self, client_id: str, secret: str) -> Client:
        """Give the client whose secret this is; raises InvalidClient for any reason there is."""
        if _ID.fullmatch(client_id) is None:
            raise InvalidClient
        query = (
            select(clients, tenants.c.disabled.label("tenant_disabled"))
            .outerjoin(tenants, tenants.c.name == clients.c.tenant)
            .where(clients.c.id == client_id)
        )
        with translated():
            async with self._engine.connect() as connection:
                row = (await connection.execute(query)).mappings().first()
        holds = self._sealer.matches(secret, row["secret_digest"] if row else _NOBODY)
        if row is None or not holds or row["disabled"] or row["tenant_disabled"]:
            raise InvalidClient
        return _client(row)

    async def change(self, client_id: str, by: Actor = SYSTEM, **values: Any) -> Client:
        """Set rights or `disabled`; tokens given before are void, unless by an enabling. Raises UnknownClient."""
        if "scopes" in values:
            values["scopes"] = " ".join(sorted(values["scopes"]))
        await self._set(client_id, by, "client.changed", values, values)
        return await self.get(client_id)

    async def new_secret(self, client_id: str, by: Actor = SYSTEM) -> str:
        """Replace the secret; the old one, and tokens got by it, are void. Raises UnknownClient."""
        secret = new_secret(SECRET_PREFIX)
        await self._set(client_id, by, "client.secret", {"secret_digest": self._sealer.seal(secret)}, {})
        return secret

    async def _set(self, client_id: str, by: Actor, action: str, values: dict[str, Any], shown: dict[str, Any]) -> None:
        grown = values if values == {"disabled": False} else {**values, "generation": clients.c.generation + 1}
        changed = update(clients).where(clients.c.id == client_id).values(grown).returning(clients)
        with translated():
            async with self._engine.begin() as connection:
                row = (await connection.execute(changed)).mappings().first()
                if row is None:
                    raise UnknownClient("There is no client of that id.")
                await revoke(connection, client_id, self._now(), row["generation"])
                await record(connection, by, self._now(), action, row["tenant"], f"client:{client_id}", **shown)

    async def _all(self, query: Select[Any]) -> builtins.list[Client]:
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        return [_client(row) for row in rows]


def _client(row: RowMapping) -> Client:
    values = {field.name: row[field.name] for field in fields(Client)}
    return Client(**{**values, "scopes": frozenset(row["scopes"].split())})
