"""API keys: the table, and the check of one that comes with a request."""

import asyncio
import builtins
import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SYSTEM, Actor, record
from auth.credentials import HINT, Sealer, new_key, well_formed
from auth.database import translated
from auth.errors import InvalidToken, StoreUnavailable, UnknownKey, UnknownUser
from auth.principal import Principal
from auth.rights import Grant
from auth.tables import MAX_NAME, api_keys, tenants, users
from auth.tenants import check_name, ensure

_GRANTED = ("name", "owner", "scopes", "models", "may_leave", "requests_per_minute", "expires_at")
_SILENT_S = 1.0  # how long it is not asked after it did not
_PATIENCE_S = 2.0  # how long the database may take to answer
FRESH_S = 3.0  # how long an answer of the database is believed: a revoked key is refused everywhere after so long


@dataclass(frozen=True, slots=True)
class Key:
    """One row; times are in UTC. `owner` is a user's id; without one the key belongs to its tenant. `models` None: every one."""

    id: str
    hint: str
    name: str
    tenant: str
    owner: str | None
    scopes: frozenset[str]
    models: frozenset[str] | None
    may_leave: bool
    requests_per_minute: int | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyStore:
    """API keys by id. Every method raises StoreUnavailable when the database does not answer."""

    def __init__(self, engine: AsyncEngine, sealer: Sealer, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self._engine, self._sealer, self._now = engine, sealer, now

    async def add(
        self,
        name: str,
        rights: Grant,
        *,
        tenant: str,
        owner: str | None = None,
        by: Actor = SYSTEM,
    ) -> tuple[Key, str]:
        """Make a key: its row, and the key itself, which cannot be had again. Raises InvalidName, TenantClosed or UnknownUser."""
        check_name(name, MAX_NAME, "A key")
        secret, now = new_key(), datetime.fromtimestamp(self._now(), UTC)
        row = {
            "id": str(uuid.uuid4()),
            "digest": self._sealer.seal(secret),
            "hint": secret[:HINT],
            "name": name,
            "tenant": tenant,
            "owner": owner,
            "scopes": " ".join(sorted(rights.scopes or ())),
            "models": None if rights.models is None else json.dumps(sorted(rights.models)),
            "may_leave": rights.may_leave,
            "requests_per_minute": rights.requests_per_minute,
            "created_at": now,
            "created_by": by.subject,
            "expires_at": rights.expires_at,
        }
        granted = {name: row[name] for name in _GRANTED}
        try:
            with translated():
                async with self._engine.begin() as connection:
                    await ensure(connection, tenant, by, self._now())
                    await connection.execute(insert(api_keys).values(row))
                    await record(connection, by, self._now(), "key.added", tenant, f"key:{row['id']}", **granted)
        except IntegrityError as error:
            raise UnknownUser("There is no user of that id.") from error
        return await self.get(str(row["id"])), secret

    async def get(self, key_id: str) -> Key:
        """Find a key; raises UnknownKey."""
        found = await self._all(select(api_keys).where(api_keys.c.id == key_id))
        if not found:
            raise UnknownKey("There is no API key of that id.")
        return found[0]

    async def list(
        self, tenant: str | None = None, owner: str | None = None, after: str = "", limit: int | None = None
    ) -> builtins.list[Key]:
        """The keys of a tenant or of a user, or all, in the order of ids; `limit` of them that come after the id `after`."""
        query = select(api_keys).where(api_keys.c.id > after).order_by(api_keys.c.id).limit(limit)
        if tenant is not None:
            query = query.where(api_keys.c.tenant == tenant)
        if owner is not None:
            query = query.where(api_keys.c.owner == owner)
        return await self._all(query)

    async def live(self, owner: str) -> int:
        """How many keys of a user hold now."""
        now = datetime.fromtimestamp(self._now(), UTC)
        holds = api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now))
        query = select(func.count()).select_from(api_keys).where((api_keys.c.owner == owner) & holds)
        with translated():
            async with self._engine.connect() as connection:
                return int((await connection.execute(query)).scalar_one())

    async def revoke(self, key_id: str, by: Actor = SYSTEM) -> Key:
        """Refuse a key for good; raises UnknownKey. Again does nothing."""
        key = await self.get(key_id)
        live = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
        with translated():
            async with self._engine.begin() as connection:
                revoked = update(api_keys).where(live).values(revoked_at=datetime.fromtimestamp(self._now(), UTC))
                if (await connection.execute(revoked)).rowcount:
                    await record(connection, by, self._now(), "key.revoked", key.tenant, f"key:{key_id}", name=key.name)
        return await self.get(key_id)

    async def used(self, times: dict[str, float]) -> None:
        """Write down when keys were used last; `times` in seconds since 1970."""
        with translated():
            async with self._engine.begin() as connection:
                for key_id, at in sorted(times.items()):  # in one order, or two workers could wait for each other
                    mark = update(api_keys).where(api_keys.c.id == key_id)
                    await connection.execute(mark.values(last_used_at=datetime.fromtimestamp(at, UTC)))

    async def holder(self, sealed: str) -> RowMapping | None:
        """The row of a key by its digest, with what its tenant and its owner are allowed now."""
        query = (
            select(
                api_keys,
                tenants.c.disabled.label("tenant_disabled"),
                users.c.disabled.label("owner_disabled"),
                users.c.scopes.label("owner_scopes"),
                users.c.may_leave.label("owner_may_leave"),
                users.c.requests_per_minute.label("owner_rpm"),
            )
            .outerjoin(users, users.c.id == api_keys.c.owner)
            .outerjoin(tenants, tenants.c.name == api_keys.c.tenant)
            .where(api_keys.c.digest == sealed)
        )
        with translated():
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).mappings().first()

    async def _all(self, query: Select[Any]) -> builtins.list[Key]:
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        return [_key(row) for row in rows]


class _Answer(NamedTuple):
    """What the database said of a key, and when by the monotonic clock; `expires` in seconds since 1970."""

    principal: Principal | None
    expires: float
    asked: float


class ApiKeys:
    """Checks keys. The database is asked about a key every `FRESH_S` at most; while it is away its last word holds a while."""

    def __init__(
        self,
        store: KeyStore,
        sealer: Sealer,
        *,
        stale_s: float = 300,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        remember: int = 10_000,
        away: Callable[[bool], None] | None = None,
    ) -> None:
        """`stale_s`: how old an answer may be while the database is away; `remember` bounds how many are kept.

        `away` hears each time whether the database has answered.
        """
        self._heard = away or (lambda _: None)
        self._silent_until = float("-inf")
        self._store, self._sealer, self._stale_s, self._now, self._clock = store, sealer, stale_s, now, clock
        self._remember = remember
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Answer]] = {}
        self._used: dict[str, float] = {}

    async def verify(self, key: str) -> Principal:
        """Give the holder of a key that holds now; raises InvalidToken, or StoreUnavailable when nobody can tell."""
        if not well_formed(key):
            raise InvalidToken
        sealed = self._sealer.seal(key)
        answer = self._answers.get(sealed)
        if answer is None or self._clock() - answer.asked > FRESH_S:
            answer = await self._asked(sealed, answer)
        principal = answer.principal
        if principal is None or self._now() >= answer.expires:
            raise InvalidToken
        self._used[principal.key or ""] = self._now()
        return principal

    async def flush(self) -> None:
        """Write down when keys were used last; raises StoreUnavailable, and keeps what could not be written."""
        used, self._used = self._used, {}
        try:
            if used:
                await self._store.used(used)
        except StoreUnavailable:
            self._used = used | self._used
            raise

    async def _asked(self, sealed: str, known: _Answer | None) -> _Answer:
        if self._clock() < self._silent_until:
            return self._stale(known)
        # One question at a time about a key, however many requests wait for it; none of them can cancel it for the others.
        task = self._asking.get(sealed)
        if task is None:
            task = self._asking[sealed] = asyncio.create_task(self._ask(sealed))
            task.add_done_callback(lambda _: self._asking.pop(sealed, None))
        try:
            return await asyncio.shield(task)
        except StoreUnavailable:
            return self._stale(known)

    def _stale(self, known: _Answer | None) -> _Answer:
        if known is None or self._clock() - known.asked > self._stale_s:
            raise StoreUnavailable("The user database does not answer.")
        return known

    async def _ask(self, sealed: str) -> _Answer:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                row = await self._store.holder(sealed)
        except (StoreUnavailable, TimeoutError) as error:
            self._heard(True)
            self._silent_until = self._clock() + _SILENT_S  # nobody else has to find out
            raise StoreUnavailable("The user database does not answer.") from error
        self._heard(False)
        expires = row["expires_at"].timestamp() if row and row["expires_at"] else float("inf")
        answer = _Answer(_principal(row) if row else None, expires, self._clock())
        self._answers[sealed] = answer
        self._answers.move_to_end(sealed)
        if len(self._answers) > self._remember:
            self._answers.popitem(last=False)
        return answer


def _principal(row: RowMapping) -> Principal | None:
    owned = row["owner"] is not None
    if row["revoked_at"] is not None or row["tenant_disabled"] or (owned and row["owner_disabled"]):
        return None
    scopes = frozenset(row["scopes"].split())
    return Principal(
        subject=row["owner"] or row["id"],
        tenant=row["tenant"],
        scopes=scopes & frozenset(row["owner_scopes"].split()) if owned else scopes,
        kind="key",
        may_leave=row["may_leave"] and (row["owner_may_leave"] or not owned),
        requests_per_minute=row["owner_rpm"],
        key_requests_per_minute=row["requests_per_minute"],
        models=None if row["models"] is None else frozenset(json.loads(row["models"])),
        key=row["id"],
    )


def _key(row: RowMapping) -> Key:
    values = {field.name: row[field.name] for field in fields(Key)}
    values["scopes"] = frozenset(row["scopes"].split())
    values["models"] = None if row["models"] is None else frozenset(json.loads(row["models"]))
    return Key(**values)
