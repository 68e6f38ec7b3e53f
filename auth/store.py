"""The table of users."""

import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Boolean, Column, Integer, MetaData, RowMapping, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.dml import Update

from auth.database import UtcDateTime, create_tables, translated
from auth.errors import InvalidName, NameTaken, UnknownUser

MAX_NAME = 150  # characters, as typed and as stored

metadata = MetaData()
users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),  # UUID; the `sub` of tokens, so a name can change hands
    Column("username", String(MAX_NAME), nullable=False, unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("role", String(32), nullable=False),
    Column("scopes", String(1024), nullable=False),  # space-separated (RFC 6749 §3.3)
    Column("may_leave", Boolean, nullable=False),
    Column("requests_per_minute", Integer, nullable=True),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class User:
    """One row; `created_at` is in UTC, `requests_per_minute` None means the configured limit."""

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
    """Users by name. Every method raises StoreUnavailable when the database does not answer."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970; it dates new users."""
        self._engine, self._now = engine, now

    async def create_schema(self) -> None:
        """Create the table unless it is there."""
        await create_tables(self._engine, metadata)

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
    ) -> User:
        """Store a new user; raises NameTaken or InvalidName."""
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
        try:
            with translated():
                async with self._engine.begin() as connection:
                    await connection.execute(insert(users).values(row))
        except IntegrityError as error:
            raise NameTaken(f"There is already a user named {user.username!r}.") from error
        return user

    async def by_name(self, username: str) -> User | None:
        """Find a user by any spelling of the name."""
        try:
            name = normal_name(username)
        except InvalidName:
            return None
        with translated():
            async with self._engine.connect() as connection:
                row = (await connection.execute(select(users).where(users.c.username == name))).mappings().first()
        return _user(row) if row else None

    async def set_password_hash(self, username: str, password_hash: str) -> None:
        """Replace the hash; raises UnknownUser."""
        await self._change(username, update(users).values(password_hash=password_hash))

    async def enable(self, username: str) -> None:
        """Let a disabled user log in again; raises UnknownUser."""
        await self._change(username, update(users).values(disabled=False))

    async def disable(self, username: str) -> None:
        """Let the user log in no more (tokens already given run out by themselves); raises UnknownUser."""
        await self._change(username, update(users).values(disabled=True))

    async def list(self) -> list[User]:
        """All users, by name."""
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(users).order_by(users.c.username))).mappings().all()
        return [_user(row) for row in rows]

    async def _change(self, username: str, change: Update) -> None:
        try:
            name = normal_name(username)
        except InvalidName as error:
            raise UnknownUser("There is no user of that name.") from error
        with translated():
            async with self._engine.begin() as connection:
                result = await connection.execute(change.where(users.c.username == name))
        if result.rowcount == 0:
            raise UnknownUser(f"There is no user named {name!r}.")


def _user(row: RowMapping) -> User:
    return User(**{**row, "scopes": frozenset(row["scopes"].split())})
