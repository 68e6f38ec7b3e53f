"""Users."""

import builtins
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth import schema
from auth.audit import SYSTEM, Actor, record
from auth.database import translated
from auth.errors import InvalidName, NameTaken, UnknownUser
from auth.revocations import revoke
from auth.tables import MAX_NAME, sessions, tenants, users
from auth.tenants import ensure


@dataclass(frozen=True, slots=True)
class User:
    """One row; `created_at` is in UTC, `requests_per_minute` None means the configured limit.

    `generation` grows when rights or the password change: tokens of an earlier one are void.
    """

    id: str
    username: str
    password_hash: str
    tenant: str
    role: str
    scopes: frozenset[str]
    may_leave: bool
    requests_per_minute: int | None
    disabled: bool
    created_at: datetime
    generation: int = 0


def normal_name(username: str) -> str:
    """Give the stored form of a name, so that nobody can register a look-alike by case or width: NFKC, case-folded.

    Raises InvalidName when it is empty, longer than 150 characters, or has a space or an unprintable character.
    """
    if len(username) > MAX_NAME:
        raise InvalidName(f"A user name has at most {MAX_NAME} characters.")
    # Case-folding can denormalise, hence twice (Unicode, toNFKC_Casefold).
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or any(map(str.isspace, name)):
        raise InvalidName(f"A user name has 1 to {MAX_NAME} printable characters and no space.")
    return name


class UserStore:
    """Users by name or id. Every method raises StoreUnavailable when the database does not answer."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970; it dates new users and what is changed."""
        self._engine, self._now = engine, now

    async def create_schema(self) -> None:
        """Bring the tables of this package to their newest revision."""
        await schema.prepare(self._engine)

    async def add(
        self,
        username: str,
        password_hash: str,
        *,
        tenant: str = "default",
        role: str = "member",
        scopes: Iterable[str] = (),
        may_leave: bool = False,
        requests_per_minute: int | None = None,
        by: Actor = SYSTEM,
    ) -> User:
        """Store a new user, and the tenant if it is new; raises NameTaken, InvalidName or TenantClosed."""
        user = User(
            id=str(uuid.uuid4()),
            username=normal_name(username),
            password_hash=password_hash,
            tenant=tenant,
            role=role,
            scopes=frozenset(scopes),
            may_leave=may_leave,
            requests_per_minute=requests_per_minute,
            disabled=False,
            created_at=datetime.fromtimestamp(self._now(), UTC),
        )
        row = {name: getattr(user, name) for name in User.__slots__} | {"scopes": " ".join(sorted(user.scopes))}
        granted = {name: row[name] for name in ("username", "role", "scopes", "may_leave", "requests_per_minute")}
        try:
            with translated():
                async with self._engine.begin() as connection:
                    await ensure(connection, tenant, by, self._now())
                    await connection.execute(insert(users).values(row))
                    await record(connection, by, self._now(), "user.added", tenant, f"user:{user.id}", **granted)
        except IntegrityError as error:
            raise NameTaken(f"There is already a user named {user.username!r}.") from error
        return user

    async def by_name(self, username: str) -> User | None:
        """Find a user by any spelling of the name."""
        try:
            name = normal_name(username)
        except InvalidName:
            return None
        return await self._one(username=name)

    async def by_id(self, user_id: str) -> User | None:
        """Find a user by the id, which is the `sub` of tokens."""
        return await self._one(id=user_id)

    async def closed(self, tenant: str) -> bool:
        """Whether a tenant is disabled."""
        query = select(tenants.c.disabled).where(tenants.c.name == tenant)
        with translated():
            async with self._engine.connect() as connection:
                return bool((await connection.execute(query)).scalar())

    async def change(self, user_id: str, by: Actor = SYSTEM, **values: Any) -> User:
        """Set columns of a user: rights, `disabled` or `password_hash`; tokens given before are void, unless by an enabling.

        Raises UnknownUser.
        """
        if "scopes" in values:
            values["scopes"] = " ".join(sorted(values["scopes"]))
        with translated():
            async with self._engine.begin() as connection:
                changed = update(users).where(users.c.id == user_id).values(values).returning(users)
                row = (await connection.execute(changed)).mappings().first()
                if row is None:
                    raise UnknownUser("There is no user of that id.")
                if values != {"disabled": False}:
                    row = await self._void(connection, user_id, ends=bool({"password_hash", "disabled"} & set(values)))
                shown = {name: value for name, value in values.items() if name != "password_hash"}
                action = "user.password" if not shown else "user.changed"
                if "password_hash" in values:
                    shown["new_password"] = True
                await record(connection, by, self._now(), action, row["tenant"], f"user:{user_id}", **shown)
        return _user(row)

    async def set_password_hash(self, username: str, password_hash: str, by: Actor = SYSTEM) -> None:
        """Replace the hash; raises UnknownUser."""
        await self.change((await self.named(username)).id, by, password_hash=password_hash)

    async def rehash(self, user: User, password_hash: str) -> None:
        """Replace the hash by one of the same password at another cost: no right changes."""
        with translated():
            async with self._engine.begin() as connection:
                unchanged = (users.c.id == user.id) & (users.c.password_hash == user.password_hash)
                await connection.execute(update(users).where(unchanged).values(password_hash=password_hash))

    async def enable(self, username: str, by: Actor = SYSTEM) -> None:
        """Let a disabled user log in again; raises UnknownUser."""
        await self.change((await self.named(username)).id, by, disabled=False)

    async def disable(self, username: str, by: Actor = SYSTEM) -> None:
        """Let the user log in no more, and void tokens and keys already given; raises UnknownUser."""
        await self.change((await self.named(username)).id, by, disabled=True)

    async def list(self, tenant: str | None = None, after: str = "", limit: int | None = None) -> builtins.list[User]:
        """The users of a tenant, or all, by name; `limit` of them that come after the name `after`."""
        query = select(users).where(users.c.username > after).order_by(users.c.username).limit(limit)
        if tenant is not None:
            query = query.where(users.c.tenant == tenant)
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        return [_user(row) for row in rows]

    async def _void(self, connection: AsyncConnection, user_id: str, *, ends: bool) -> RowMapping:
        grown = update(users).where(users.c.id == user_id).values(generation=users.c.generation + 1).returning(users)
        row: RowMapping = (await connection.execute(grown)).mappings().one()
        await revoke(connection, user_id, self._now(), row["generation"])
        if ends:
            mine = (sessions.c.user_id == user_id) & sessions.c.ended_at.is_(None)
            ended = datetime.fromtimestamp(self._now(), UTC)
            await connection.execute(update(sessions).where(mine).values(ended_at=ended))
        return row

    async def named(self, username: str) -> User:
        """Find a user by any spelling of the name; raises UnknownUser."""
        user = await self.by_name(username)
        if user is None:
            raise UnknownUser(f"There is no user named {username[:MAX_NAME]!r}.")
        return user

    async def _one(self, **where: str) -> User | None:
        with translated():
            async with self._engine.connect() as connection:
                row = (await connection.execute(select(users).filter_by(**where))).mappings().first()
        return _user(row) if row else None


def _user(row: RowMapping) -> User:
    return User(**{**row, "scopes": frozenset(row["scopes"].split())})
