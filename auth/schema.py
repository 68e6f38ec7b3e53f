"""The revisions of a database, by Alembic.

A new database gets the tables as they are now, at once; one of an earlier revision is led through the migrations. Every
process that starts does so, one at a time, and finds nothing to do when another was first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.database import patient, translated
from auth.errors import BadConfiguration
from auth.principal import HOUSE
from auth.tables import metadata, tenants

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x70617373  # any number will do as long as every worker takes the same


Result = TypeVar("Result")


@dataclass(frozen=True)
class Lineage:
    """Tables that are migrated together: their revisions are in `folder`, the newest is `head`.

    `fill` puts the first rows into new tables, as the migrations do on their way.
    """

    name: str
    folder: Path
    head: str
    metadata: MetaData
    fill: Callable[[Connection], None] = lambda _connection: None

    @property
    def version_table(self) -> str:
        """The table that holds the revision of this lineage in a database."""
        return f"{self.name}_revision"


def _house(connection: Connection) -> None:
    connection.execute(insert(tenants).values(name=HOUSE, disabled=False, created_at=datetime.now(UTC)))


AUTH: Final = Lineage("auth", _MIGRATIONS / "versions", "0002", metadata, _house)


async def prepare(engine: AsyncEngine, lineage: Lineage = AUTH) -> None:
    """Bring the tables to the newest revision. Raises StoreUnavailable, or BadConfiguration for a revision of the future."""
    await _locked(engine, lambda connection: _prepare(connection, lineage))


async def ready(engine: AsyncEngine, lineage: Lineage = AUTH) -> None:
    """Make the tables of a new database; raises BadConfiguration for one that is at another revision than the newest.

    For commands that only look, or change a row: they should not take the way back from an operator.
    """
    await _locked(engine, lambda connection: _ready(connection, lineage))


async def revision(engine: AsyncEngine, lineage: Lineage = AUTH) -> str | None:
    """The revision that the database is at; None when it has no tables of the lineage, or those from before revisions."""
    return await _locked(engine, lambda connection: _current(connection, lineage))


async def upgrade(engine: AsyncEngine, lineage: Lineage, to: str = "head") -> None:
    """Lead a database through the migrations up to one."""
    await _locked(engine, lambda connection: _alembic(connection, lineage, "upgrade", to))


async def downgrade(engine: AsyncEngine, lineage: Lineage, to: str) -> None:
    """Lead a database back to an earlier revision, or to `base`, which is none; what only later ones hold is lost."""
    await _locked(engine, lambda connection: _alembic(connection, lineage, "downgrade", to))


async def _locked(engine: AsyncEngine, work: Callable[[Connection], Result]) -> Result:
    own = patient(engine)  # a migration, or another process's, may take longer than a request may wait
    try:
        return await _transacted(own, work)
    finally:
        if own is not engine:
            await own.dispose()


async def _transacted(engine: AsyncEngine, work: Callable[[Connection], Result]) -> Result:
    with translated():
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            else:
                # The driver itself begins no transaction before a CREATE TABLE.
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            return await connection.run_sync(work)


def _prepare(connection: Connection, lineage: Lineage) -> None:
    current = _current(connection, lineage)
    if current == lineage.head:
        return
    present = set(inspect(connection).get_table_names())
    if current is None and not present & set(lineage.metadata.tables):
        lineage.metadata.create_all(connection)
        lineage.fill(connection)
        _stamp(connection, lineage)
    else:
        _alembic(connection, lineage, "upgrade", "head")


def _ready(connection: Connection, lineage: Lineage) -> None:
    current = _current(connection, lineage)
    if current is None and not set(inspect(connection).get_table_names()) & set(lineage.metadata.tables):
        _prepare(connection, lineage)
    elif current != lineage.head:
        raise BadConfiguration(
            f"The {lineage.name} tables are at revision {current or 'none'}, and this Passerelle wants {lineage.head}: start its "
            "gateway, or run `passerelle database upgrade`."
        )


def _current(connection: Connection, lineage: Lineage) -> str | None:
    if not inspect(connection).has_table(lineage.version_table):
        return None
    return connection.execute(select(_version(lineage).c.version_num)).scalar()


def _stamp(connection: Connection, lineage: Lineage) -> None:
    version = _version(lineage)
    version.create(connection, checkfirst=True)
    connection.execute(version.insert().values(version_num=lineage.head))


def _version(lineage: Lineage) -> Table:
    """Alembic's own table, as Alembic makes it."""
    return Table(lineage.version_table, MetaData(), Column("version_num", String(32), primary_key=True))


def _alembic(connection: Connection, lineage: Lineage, direction: str, to: str) -> None:
    # Imported here: a database that is at the newest revision, which is every start but one, does without it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("version_locations", str(lineage.folder))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(connection=connection, metadata=lineage.metadata, version_table=lineage.version_table)
    try:
        (command.upgrade if direction == "upgrade" else command.downgrade)(config, to)
    except CommandError as error:
        raise BadConfiguration(
            f"The {lineage.name} tables cannot go to revision {to!r}: {str(error).rstrip('.')}. A database of a newer "
            "Passerelle needs that one, or its `passerelle database downgrade`."
        ) from error
