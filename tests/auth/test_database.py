import stat
from pathlib import Path

import pytest
from sqlalchemy import text

from auth.database import engine, normalise
from auth.errors import BadConfiguration
from auth.store import UserStore


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///users.db", "sqlite+aiosqlite:///users.db"),
        ("sqlite:////var/lib/users.db", "sqlite+aiosqlite:////var/lib/users.db"),
        ("sqlite+aiosqlite://", "sqlite+aiosqlite://"),
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
    ],
)
def test_a_plain_url_gets_its_asynchronous_driver(given: str, meant: str) -> None:
    assert normalise(given).render_as_string(hide_password=False) == meant


@pytest.mark.parametrize("url", ["", "users.db", "mysql://u:secret@h/d", "postgresql+psycopg2://h/d", "sqlite:/x:y@z"])
def test_any_other_url_stops_the_start_without_quoting_a_password(url: str) -> None:
    with pytest.raises(BadConfiguration, match=r"sqlite:///file or postgresql://") as refused:
        engine(url)
    assert "secret" not in str(refused.value)


async def test_sqlite_is_private_writes_ahead_and_keeps_foreign_keys(tmp_path: Path) -> None:
    path = tmp_path / "state" / "users.db"
    opened = engine(f"sqlite:///{path}")
    async with opened.connect() as connection:
        pragmas = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    await opened.dispose()
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 5000}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_sqlite_file_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfiguration, match="cannot be made"):
        engine(f"sqlite:///{tmp_path}/file/users.db")


async def test_a_database_in_memory_keeps_its_tables_between_connections() -> None:
    opened = engine("sqlite://")
    store = UserStore(opened)
    await store.create_schema()
    await store.add("alice", "hash")
    assert await store.by_name("alice") is not None
    await opened.dispose()
