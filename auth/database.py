"""A database engine for SQLite or PostgreSQL from one URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import DateTime, Dialect, Table, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.types import TypeDecorator

from auth.errors import BadConfiguration, StoreUnavailable, Unstorable
from auth.new_file import new_file

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
# SQLSTATE classes (PostgreSQL, appendix A): connection, authorization, no such database, resources, not now, operator's doing.
_UNAVAILABLE = frozenset({"08", "28", "3D", "53", "55", "57"})
_NO_CHARACTER = "22021"


# Seconds. A server that is stalled takes connections and answers nothing: nobody should wait for it for long.
_CONNECT_S: Final = 3
_POOL_S: Final = 3


def engine(url: str, *, statement_s: float | None = None) -> AsyncEngine:
    """Make an engine from `sqlite:///path` or `postgresql://…`; nothing is connected yet.

    `statement_s` bounds each statement on PostgreSQL, in seconds. A SQLite file is made readable by its owner alone, since it
    holds password hashes. Raises BadConfiguration.
    """
    parsed = normalise(url)
    if parsed.get_backend_name() == "postgresql":
        # pre_ping: a connection that died while idle is replaced instead of failing a login.
        limits = {"timeout": _CONNECT_S, "command_timeout": statement_s}
        made = create_async_engine(parsed, pool_pre_ping=True, pool_timeout=_POOL_S, connect_args=limits)
        event.listen(made.sync_engine, "handle_error", _drop_silent)
        return made
    if parsed.database not in {None, "", ":memory:"}:
        _create_private(Path(str(parsed.database)))
    created = create_async_engine(parsed)
    event.listen(created.sync_engine, "connect", _prepare_sqlite)
    return created


def insert(table: Table, dialect: Dialect) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that may say what becomes of a conflict. The module of the other database is not loaded: it takes 2 MB."""
    if dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as of_sqlite

        return of_sqlite(table)
    from sqlalchemy.dialects.postgresql import insert as of_postgresql

    return of_postgresql(table)


def patient(engine: AsyncEngine) -> AsyncEngine:
    """Another engine for the same database whose statements may take their time, such as migrations; dispose of it afterwards."""
    if engine.dialect.name != "postgresql":
        return engine
    return create_async_engine(engine.url, poolclass=NullPool, connect_args={"timeout": _CONNECT_S})


def normalise(url: str) -> URL:
    """Choose the asynchronous driver, and translate libpq's `sslmode` to asyncpg's `ssl`; raises BadConfiguration."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadConfiguration("The database URL cannot be read: write sqlite:///file or postgresql://…") from error
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise BadConfiguration(f"No database of kind {parsed.drivername!r}: write sqlite:///file or postgresql://…")
    query = {("ssl" if name == "sslmode" else name): value for name, value in parsed.query.items()}
    return parsed.set(drivername=driver, query=query)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database that cannot be reached, or is locked for too long, into StoreUnavailable; raises Unstorable too."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:  # asyncpg refuses with a bare OSError
        raise StoreUnavailable("The user database does not answer.") from error
    except DBAPIError as error:
        sqlstate = str(getattr(error.orig, "sqlstate", None))
        if error.connection_invalidated or sqlstate[:2] in _UNAVAILABLE:
            raise StoreUnavailable("The user database does not answer.") from error
        if sqlstate == _NO_CHARACTER:
            raise Unstorable("A text holds a character that cannot be stored.") from error
        raise


def utc(time: datetime) -> datetime:
    """The same time in UTC; a naive one is a mistake and raises ValueError."""
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time.astimezone(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases; SQLite forgets the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store as UTC; a naive time is a mistake and raises ValueError."""
        return None if value is None else utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _drop_silent(context: ExceptionContext) -> None:
    """A connection whose server fell silent is dropped at once: to end it in good order one would wait for the server again."""
    if isinstance(context.original_exception, TimeoutError) and context.connection is not None:
        context.is_disconnect = True
        driver = context.connection.connection.driver_connection
        if driver is not None:
            driver.terminate()


def _create_private(path: Path) -> None:
    """Make the file with its journal mode already set: workers that switch it at the same instant fail as locked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with new_file(path) as draft, closing(sqlite3.connect(draft)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    except OSError as error:
        raise BadConfiguration(f"The database file {path} cannot be made: {error.strerror}.") from error


def _prepare_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=5000")  # milliseconds; first, since switching to WAL takes a lock too
    cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer; a no-op on files made here
    cursor.execute("PRAGMA foreign_keys=ON")
    # Pages, 32 MB: one that changes often is copied into the file less often.
    cursor.execute("PRAGMA wal_autocheckpoint=8192")
    cursor.close()
