"""The tables' revisions, up and down, with data in them, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import schema
from auth.database import engine
from auth.errors import BadConfiguration, StoreUnavailable
from auth.keys import KeyStore
from auth.rights import Grant
from auth.schema import AUTH, Lineage
from auth.store import UserStore
from auth.tenants import TenantStore
from gateway.ledger import LINEAGE
from gateway.outbox import Crossing, Letter, Outbox
from tests.auth.server import SEALER

LINEAGES = [pytest.param(lineage, id=lineage.name) for lineage in (AUTH, LINEAGE)]
SAME = {
    "role": "member",
    "requests_per_minute": None,
    "disabled": False,
    "created_at": datetime(2026, 1, 2, tzinfo=UTC),
}


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = engine(database_url)
    yield made
    await made.dispose()


async def tables(opened: AsyncEngine) -> set[str]:
    async with opened.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def old_user(opened: AsyncEngine, name: str, tenant: str, scopes: str) -> None:
    """A user as the first revision has one."""
    row = {**SAME, "id": name, "username": name, "tenant": tenant, "scopes": scopes, "hash": "argon2", "leave": True}
    async with opened.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO users (id, username, password_hash, tenant, role, scopes, may_leave, requests_per_minute,"
                " disabled, created_at) VALUES (:id, :username, :hash, :tenant, :role, :scopes, :leave,"
                " :requests_per_minute, :disabled, :created_at)"
            ).bindparams(**row)
        )


async def column(opened: AsyncEngine, query: str) -> list[Any]:
    async with opened.connect() as connection:
        return list((await connection.execute(text(query))).scalars())


@pytest.mark.parametrize("lineage", LINEAGES)
async def test_the_migrations_lead_to_the_tables_of_the_program(opened: AsyncEngine, lineage: Lineage) -> None:
    await schema.upgrade(opened, lineage)

    def differences(connection: Connection) -> list[Any]:
        own = lineage.metadata.tables

        def ours(_: object, name: str | None, kind: str, *__: object) -> bool:
            return kind != "table" or name in own

        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": ours})
        return list(compare_metadata(context, lineage.metadata))

    async with opened.connect() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.parametrize("lineage", LINEAGES)
async def test_a_new_database_is_made_at_once_and_is_the_same(opened: AsyncEngine, lineage: Lineage) -> None:
    await schema.prepare(opened, lineage)
    assert await schema.revision(opened, lineage) == lineage.head
    made = await tables(opened)
    await schema.downgrade(opened, lineage, "base")
    assert await tables(opened) & set(lineage.metadata.tables) == set()
    await schema.upgrade(opened, lineage)
    assert await tables(opened) == made


@pytest.mark.parametrize("lineage", LINEAGES)
def test_the_program_knows_the_newest_revision(lineage: Lineage) -> None:
    config = Config()
    config.set_main_option("script_location", str(AUTH.folder.parent))
    config.set_main_option("version_locations", str(lineage.folder))
    config.set_main_option("path_separator", "newline")
    assert ScriptDirectory.from_config(config).get_heads() == [lineage.head]


async def test_users_of_before_keep_their_names_passwords_and_rights(opened: AsyncEngine) -> None:
    await schema.upgrade(opened, AUTH, "0001")
    await old_user(opened, "root", "default", "admin chat models usage")
    await old_user(opened, "alice", "acme", "chat models usage")
    await old_user(opened, "bob", "acme", "chat")
    await schema.prepare(opened)
    users = {user.username: user for user in await UserStore(opened).list()}
    assert users["root"].scopes == {"admin", "chat", "keys", "models", "operate", "tenants", "usage"}
    assert users["alice"].scopes == {"chat", "keys", "models", "usage"}
    assert users["bob"].scopes == {"chat"}
    assert {(user.password_hash, user.generation, user.created_at) for user in users.values()} == {
        ("argon2", 0, SAME["created_at"])
    }
    assert [tenant.name for tenant in await TenantStore(opened).list()] == ["acme", "default"]


async def test_tables_from_before_there_were_revisions_are_taken_over(opened: AsyncEngine) -> None:
    await schema.upgrade(opened, AUTH, "0001")
    await old_user(opened, "alice", "acme", "chat")
    async with opened.begin() as connection:
        await connection.execute(text(f"DROP TABLE {AUTH.version_table}"))
    assert await schema.revision(opened) is None
    await schema.prepare(opened)
    assert [user.username for user in await UserStore(opened).list()] == ["alice"]


async def test_the_way_back_keeps_users_and_gives_nobody_more_than_they_had(opened: AsyncEngine) -> None:
    await schema.prepare(opened)
    store = UserStore(opened)
    house = await store.add("root", "hash", scopes=["admin", "chat", "keys", "operate", "tenants"])
    await store.add("chef", "hash", tenant="acme", role="admin", scopes=["admin", "chat", "keys", "operate"])
    await KeyStore(opened, SEALER).add("k", Grant(frozenset({"chat"})), tenant="default", owner=house.id)
    await schema.downgrade(opened, AUTH, "0001")
    assert await column(opened, "SELECT scopes FROM users ORDER BY username") == ["chat", "admin chat"]
    assert await tables(opened) & set(AUTH.metadata.tables) == {"users"}
    await schema.prepare(opened)
    assert [user.username for user in await store.list()] == ["chef", "root"]


async def test_who_was_shut_out_with_a_tenant_stays_out_on_the_way_back(opened: AsyncEngine) -> None:
    await schema.prepare(opened)
    store = UserStore(opened)
    await store.add("alice", "hash", tenant="acme")
    await store.add("bob", "hash", tenant="umbrella")
    await TenantStore(opened).change("acme", disabled=True)
    await schema.downgrade(opened, AUTH, "0001")
    await schema.prepare(opened)
    assert {user.username: user.disabled for user in await store.list()} == {"alice": True, "bob": False}


async def test_commands_make_the_tables_of_a_new_database_and_lead_no_old_one_anywhere(opened: AsyncEngine) -> None:
    await schema.ready(opened)
    await schema.ready(opened)
    await schema.downgrade(opened, AUTH, "0001")
    with pytest.raises(BadConfiguration, match=r"at revision 0001, and this Passerelle wants 0002: start .* upgrade`"):
        await schema.ready(opened)
    assert await schema.revision(opened) == "0001"


async def test_a_ledger_of_before_is_taken_over_with_its_rows(opened: AsyncEngine) -> None:
    await schema.upgrade(opened, LINEAGE, "0001")
    row = {"id": "e", "at": SAME["created_at"], "text": "x", "number": 1}
    async with opened.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO ledger (exchange_id, sequence, request_id, at, kind, tenant, subject, model, target, state,"
                " status, prompt_tokens, completion_tokens, usage_source, seconds, guards) VALUES (:id, :number, :text, :at,"
                " :text, :text, :text, :text, :text, :text, :number, :number, :number, :text, :number, :text)"
            ).bindparams(**row)
        )
        await connection.execute(text(f"DROP TABLE {LINEAGE.version_table}"))
    await schema.prepare(opened, LINEAGE)
    assert await column(opened, "SELECT exchange_id FROM ledger") == ["e"]


async def test_alerts_come_beside_the_ledger_and_go_without_it(opened: AsyncEngine) -> None:
    await schema.upgrade(opened, LINEAGE, "0002")
    row = {"id": "e", "at": SAME["created_at"], "text": "x", "number": 1}
    async with opened.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO ledger (exchange_id, sequence, request_id, at, kind, tenant, subject, model, target, state,"
                " status, prompt_tokens, completion_tokens, usage_source, seconds, guards, cost) VALUES (:id, :number, :text,"
                " :at, :text, :text, :text, :text, :text, :text, :number, :number, :number, :text, :number, :text, :number)"
            ).bindparams(**row)
        )
    await schema.prepare(opened, LINEAGE)
    letter = Letter(Crossing("user", "alice", "money_per_month", "2026-11", 80), "r", "msg_1", datetime.now(UTC), "{}")
    await Outbox(opened).put([letter, letter])
    assert await column(opened, "SELECT message FROM alerts") == ["msg_1"]
    await schema.downgrade(opened, LINEAGE, "0002")
    assert "alerts" not in await tables(opened)
    assert await column(opened, "SELECT cost FROM ledger") == [1]
    await schema.prepare(opened, LINEAGE)
    assert await column(opened, "SELECT message FROM alerts") == []
    assert await column(opened, "SELECT exchange_id FROM ledger") == ["e"]


async def test_workers_that_start_at_once_migrate_once(database_url: str) -> None:
    first = engine(database_url)
    await schema.upgrade(first, AUTH, "0001")
    await old_user(first, "alice", "acme", "chat")
    engines = [engine(database_url) for _ in range(6)]
    await asyncio.gather(*(schema.prepare(each) for each in engines))
    assert await column(first, "SELECT username FROM users") == ["alice"]
    for each in (first, *engines):
        await each.dispose()


async def test_a_database_of_a_newer_program_stops_the_start_with_what_to_do(opened: AsyncEngine) -> None:
    await schema.prepare(opened)
    async with opened.begin() as connection:
        await connection.execute(text(f"UPDATE {AUTH.version_table} SET version_num = '9999'"))  # noqa: S608
    with pytest.raises(BadConfiguration, match="newer Passerelle"):
        await schema.prepare(opened)


async def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(opened: AsyncEngine) -> None:
    await schema.upgrade(opened, AUTH, "0001")
    await old_user(opened, "alice", "acme", "chat")
    async with opened.begin() as connection:
        await connection.execute(text("CREATE TABLE audit (id INTEGER)"))  # somebody else's, in the way
    with pytest.raises((SQLAlchemyError, StoreUnavailable)):
        await schema.prepare(opened)
    assert await schema.revision(opened) == "0001"
    assert await tables(opened) & set(AUTH.metadata.tables) == {"users", "audit"}
    async with opened.connect() as connection:
        columns = await connection.run_sync(lambda sync: inspect(sync).get_columns("users"))
    assert "generation" not in {each["name"] for each in columns}
