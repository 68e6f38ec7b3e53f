"""The same on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url

from auth.database import UtcDateTime, engine
from auth.errors import InvalidName, NameTaken, StoreUnavailable, UnknownUser
from auth.store import UserStore
from tests.auth.forge import NOW


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[UserStore]:
    opened = engine(database_url)
    store = UserStore(opened, now=lambda: NOW)
    await store.create_schema()
    yield store
    await opened.dispose()


async def test_a_user_comes_back_as_stored(store: UserStore) -> None:
    added = await store.add(
        "Alice", "hash", tenant="acme", role="admin", scopes=["usage", "chat"], may_leave=True, requests_per_minute=9
    )
    assert await store.by_name("alice") == added
    assert added.created_at == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert added.scopes == {"chat", "usage"}
    assert (added.tenant, added.role, added.may_leave, added.requests_per_minute) == ("acme", "admin", True, 9)


async def test_what_is_not_said_is_the_least(store: UserStore) -> None:
    user = await store.add("alice", "hash")
    assert (user.role, user.scopes, user.may_leave, user.requests_per_minute, user.disabled) == (
        "member",
        frozenset(),
        False,
        None,
        False,
    )


@pytest.mark.parametrize("spelling", ["STRASSE", "straße", "Ｓtraße", "strasse"])
async def test_a_name_is_the_same_in_every_case_and_width(store: UserStore, spelling: str) -> None:
    user = await store.add("Straße", "hash")
    assert await store.by_name(spelling) == user
    with pytest.raises(NameTaken):
        await store.add(spelling, "other")


@pytest.mark.parametrize("name", ["", "a b", "a\0b", "a\nb", "\ud800", "a" * 151, "\ufdfa" * 20, "\u200b", " alice"])
async def test_a_name_that_cannot_be_one_is_refused_and_is_nobody(store: UserStore, name: str) -> None:
    with pytest.raises(InvalidName):
        await store.add(name, "hash")
    with pytest.raises(UnknownUser):
        await store.disable(name)
    assert await store.by_name(name) is None


@pytest.mark.parametrize("name", ["' OR 1=1 --", "%", "_", "alice'"])
async def test_a_name_is_never_part_of_a_statement(store: UserStore, name: str) -> None:
    await store.add("alice", "hash")
    assert await store.by_name(name) is None


async def test_the_hash_and_the_state_can_change_and_only_for_that_user(store: UserStore) -> None:
    await store.add("alice", "hash")
    bob = await store.add("bob", "hash")
    await store.set_password_hash("ALICE", "other")
    await store.disable("alice")
    alice = await store.by_name("alice")
    assert alice is not None
    assert (alice.password_hash, alice.disabled) == ("other", True)
    assert await store.by_name("bob") == bob


async def test_changing_nobody_is_an_error(store: UserStore) -> None:
    with pytest.raises(UnknownUser):
        await store.set_password_hash("nobody", "hash")


async def test_users_are_listed_by_name(store: UserStore) -> None:
    for name in ("chloé", "alice", "bob"):
        await store.add(name, "hash")
    assert [user.username for user in await store.list()] == ["alice", "bob", "chloé"]


async def test_of_two_who_take_a_name_at_once_one_gets_it(store: UserStore) -> None:
    results = await asyncio.gather(*(store.add("alice", "hash") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, NameTaken) for result in results) == 4
    assert len(await store.list()) == 1


async def test_workers_that_start_at_once_make_one_table(database_url: str) -> None:
    engines = [engine(database_url) for _ in range(12)]
    await asyncio.gather(*(UserStore(opened).create_schema() for opened in engines))
    assert await UserStore(engines[0]).list() == []
    for opened in engines:
        await opened.dispose()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    opened = engine("postgresql://postgres@127.0.0.1:1/nowhere")
    with pytest.raises(StoreUnavailable) as refused:
        await UserStore(opened).by_name("alice")
    assert refused.value.status == 503
    await opened.dispose()


async def test_a_database_that_is_not_there_is_unavailable(postgres_url: str) -> None:
    opened = engine(make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False))
    with pytest.raises(StoreUnavailable):
        await UserStore(opened).add("alice", "hash")
    await opened.dispose()


async def test_a_connection_that_died_while_idle_is_replaced(postgres_database: str) -> None:
    opened = engine(postgres_database)
    store = UserStore(opened)
    await store.create_schema()
    administrator = await asyncpg.connect(postgres_database)
    await administrator.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await administrator.close()
    assert await store.list() == []
    await opened.dispose()


def test_a_time_without_a_zone_is_never_stored() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        UtcDateTime().process_bind_param(datetime(2027, 1, 15), sqlite.dialect())  # noqa: DTZ001 -- the mistake itself
