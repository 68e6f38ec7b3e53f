"""Who may give which right to whom, beside the database; the same over HTTP is tested with the gateway."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.administration import Administration
from auth.audit import Actor, entries
from auth.clients import ClientStore
from auth.database import engine
from auth.errors import AuthError, Forbidden, InsufficientScope, NoScope, UnknownKey, UnknownUser, WeakPassword
from auth.keys import ApiKeys, KeyStore
from auth.passwords import CHEAPEST, Passwords
from auth.principal import Principal, scopes_of
from auth.rights import ROOT, Grant
from auth.store import UserStore
from auth.tenants import TenantStore
from tests.auth.server import SEALER

BY, PASSWORD = Actor("tester", "default"), "une phrase de passe"
CHEF = Principal("chef", "acme", scopes_of("admin", "acme"))
OPERATOR = Principal("op", "acme", scopes_of("operator", "acme"))
MEMBER = Principal("mia", "acme", scopes_of("member", "acme"))
NOTHING = Grant()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    made = engine(f"sqlite:///{tmp_path}/users.db")
    await UserStore(made).create_schema()
    yield made
    await made.dispose()


@pytest.fixture
def managed(opened: AsyncEngine) -> Administration:
    stores = UserStore(opened), TenantStore(opened), KeyStore(opened, SEALER), ClientStore(opened, SEALER)
    return Administration(opened, *stores, Passwords(CHEAPEST), requests_per_minute=60)


async def test_an_administrator_gives_what_they_have_and_no_more(managed: Administration) -> None:
    user = await managed.add_user(CHEF, BY, "alice", PASSWORD, NOTHING, role="operator")
    assert (user.tenant, user.scopes) == ("acme", scopes_of("operator", "acme"))
    for rights in (Grant(frozenset({"tenants"})), Grant(may_leave=True), Grant(requests_per_minute=61)):
        with pytest.raises(Forbidden):
            await managed.add_user(CHEF, BY, "bob", PASSWORD, rights)
        with pytest.raises(Forbidden):
            await managed.add_key(CHEF, BY, "k", rights)
        with pytest.raises(Forbidden):
            await managed.add_client(CHEF, BY, "c", rights)
    with pytest.raises(InsufficientScope):
        await managed.add_user(CHEF, BY, "bob", PASSWORD, NOTHING, tenant="umbrella")
    root = await managed.add_user(
        ROOT,
        BY,
        "carl",
        PASSWORD,
        Grant(frozenset({"tenants"}), may_leave=True, requests_per_minute=600),
        tenant="acme",
    )
    assert root.may_leave


async def test_members_and_operators_give_nothing(managed: Administration) -> None:
    for caller in (MEMBER, OPERATOR):
        with pytest.raises(InsufficientScope):
            await managed.add_user(caller, BY, "bob", PASSWORD, NOTHING)
        with pytest.raises(InsufficientScope):
            await managed.add_key(caller, BY, "k", NOTHING)
    with pytest.raises(InsufficientScope):
        await managed.users(MEMBER, None, "", 10)


async def test_nobody_takes_over_somebody_with_more_rights(managed: Administration) -> None:
    root = await managed.add_user(ROOT, BY, "root", PASSWORD, Grant(scopes_of("admin", "default")), tenant="acme")
    leaver = await managed.add_user(ROOT, BY, "leaver", PASSWORD, Grant(may_leave=True), tenant="acme")
    client, _ = await managed.add_client(ROOT, BY, "c", Grant(may_leave=True), tenant="acme")
    limited = replace(CHEF, models=frozenset({"falcon"}), kind="key")
    plain = await managed.add_user(ROOT, BY, "plain", PASSWORD, NOTHING, tenant="acme")
    for caller, user in ((CHEF, root), (CHEF, leaver), (limited, plain)):
        with pytest.raises(Forbidden):
            await managed.change_user(caller, BY, user.id, password="sept chevaux bleus")
    with pytest.raises(Forbidden):
        await managed.new_client_secret(CHEF, BY, client.id)
    with pytest.raises(Forbidden):
        await managed.change_user(CHEF, BY, root.id, disabled=True)
    assert (await managed.change_user(CHEF, BY, leaver.id, disabled=True)).disabled
    assert (await managed.change_user(limited, BY, plain.id, disabled=True)).disabled


async def test_an_operator_locks_out_members_and_not_administrators(managed: Administration) -> None:
    member = await managed.add_user(CHEF, BY, "mia", PASSWORD, NOTHING)
    admin = await managed.add_user(CHEF, BY, "anna", PASSWORD, NOTHING, role="admin")
    key, _ = await managed.add_key(CHEF, BY, "k", NOTHING)
    strong, _ = await managed.add_key(CHEF, BY, "strong", Grant(frozenset({"admin"})))
    assert (await managed.change_user(OPERATOR, BY, member.id, disabled=True)).disabled
    for changes in ({"disabled": False}, {"disabled": True, "role": "member"}, {"role": "member"}):
        with pytest.raises(InsufficientScope):
            await managed.change_user(OPERATOR, BY, member.id, **changes)
    with pytest.raises(Forbidden):
        await managed.change_user(OPERATOR, BY, admin.id, disabled=True)
    assert (await managed.revoke_key(OPERATOR, BY, key.id)).revoked_at
    with pytest.raises(Forbidden):
        await managed.revoke_key(OPERATOR, BY, strong.id)


async def test_a_key_limited_to_some_models_gives_no_others(managed: Administration) -> None:
    limited = replace(CHEF, models=frozenset({"falcon", "gemma"}), kind="key", key="k")
    key, _ = await managed.add_key(limited, BY, "k", NOTHING)
    assert key.models == frozenset({"falcon", "gemma"})
    gemma = frozenset({"gemma"})
    assert (await managed.add_key(limited, BY, "l", Grant(models=gemma)))[0].models == gemma
    for attempt in (
        managed.add_key(limited, BY, "m", Grant(models=frozenset({"gpt"}))),
        managed.add_client(limited, BY, "c", NOTHING),
        managed.add_user(limited, BY, "u", PASSWORD, NOTHING),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def test_a_key_of_one_s_own_counts_in_its_owner_s_limit_and_in_its_own(managed: Administration) -> None:
    user = await managed.add_user(CHEF, BY, "alice", PASSWORD, Grant(requests_per_minute=2))
    caller = Principal(user.id, "acme", user.scopes, requests_per_minute=2)
    _, secret = await managed.add_own_key(caller, BY, "k", Grant(requests_per_minute=60))
    holder = await ApiKeys(managed.key_store, SEALER).verify(secret)
    assert (holder.requests_per_minute, holder.key_requests_per_minute) == (2, 60)
    with pytest.raises(Forbidden, match="logged in"):
        await managed.add_own_key(replace(caller, kind="key"), BY, "another", NOTHING)


async def test_a_key_can_do_something_and_nothing_that_its_owner_cannot(managed: Administration) -> None:
    alice = await managed.add_user(CHEF, BY, "alice", PASSWORD, Grant(frozenset({"chat"})))
    key, _ = await managed.add_key(CHEF, BY, "k", NOTHING, owner=alice.id)
    assert key.scopes == frozenset({"chat"})
    with pytest.raises(Forbidden, match="owner does not have"):
        await managed.add_key(CHEF, BY, "k", Grant(frozenset({"admin"})), owner=alice.id)
    with pytest.raises(NoScope, match="no scope"):
        await managed.add_key(Principal("x", "acme", frozenset({"operate", "admin"})), BY, "k", NOTHING)


async def test_nobody_takes_administration_from_themselves(managed: Administration) -> None:
    chef = await managed.add_user(ROOT, BY, "chef", PASSWORD, NOTHING, tenant="acme", role="admin")
    caller = Principal(chef.id, "acme", chef.scopes)
    for changes in ({"disabled": True}, {"role": "member"}, {"scopes": frozenset({"chat"})}):
        with pytest.raises(Forbidden, match="yourself"):
            await managed.change_user(caller, BY, chef.id, **changes)
    await managed.change_user(caller, BY, chef.id, password="sept chevaux bleus")
    assert (await managed.change_user(ROOT, BY, chef.id, role="member")).role == "member"


async def test_a_user_has_no_more_keys_than_anybody_needs(
    managed: Administration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auth.administration.MOST_KEYS", 2)
    user = await managed.add_user(CHEF, BY, "alice", PASSWORD, NOTHING)
    caller = Principal(user.id, "acme", user.scopes)
    first, _ = await managed.add_own_key(caller, BY, "1", NOTHING)
    await managed.add_own_key(caller, BY, "2", NOTHING)
    with pytest.raises(Forbidden, match="revoke one"):
        await managed.add_own_key(caller, BY, "3", NOTHING)
    await managed.revoke_key(caller, BY, first.id)
    await managed.add_own_key(caller, BY, "3", NOTHING)


async def test_keys_are_one_s_own_or_of_one_s_tenant(managed: Administration) -> None:
    alice = await managed.add_user(CHEF, BY, "alice", PASSWORD, NOTHING)
    bob = Principal("bob", "acme", scopes_of("member", "acme"))
    key, _ = await managed.add_own_key(Principal(alice.id, "acme", alice.scopes), BY, "k", NOTHING)
    assert await managed.own_keys(bob, "", 10) == []
    for stranger in (bob, Principal("chef", "umbrella", CHEF.scopes)):
        with pytest.raises(UnknownKey):
            await managed.revoke_key(stranger, BY, key.id)
    with pytest.raises(UnknownUser):
        await managed.add_key(Principal("chef", "umbrella", CHEF.scopes), BY, "k", NOTHING, owner=alice.id)
    with pytest.raises(UnknownUser):
        await managed.add_key(ROOT, BY, "k", NOTHING, tenant="umbrella", owner=alice.id)


async def test_a_refused_change_changes_nothing_and_leaves_no_row(managed: Administration, opened: AsyncEngine) -> None:
    user = await managed.add_user(CHEF, BY, "alice", PASSWORD, NOTHING)
    before = await entries(opened, None, None, 100)
    for changes in ({"scopes": frozenset({"tenants"})}, {"password": "aaaaaaaaaaaaaaaa"}, {"may_leave": True}):
        with pytest.raises((Forbidden, WeakPassword)):
            await managed.change_user(CHEF, BY, user.id, **changes)
    assert await entries(opened, None, None, 100) == before
    assert await managed.user(CHEF, user.id) == user


async def test_a_password_beside_another_change_is_in_the_audit(managed: Administration, opened: AsyncEngine) -> None:
    user = await managed.add_user(CHEF, BY, "alice", PASSWORD, NOTHING)
    await managed.change_user(CHEF, BY, user.id, password="sept chevaux bleus", role="operator")
    row = (await entries(opened, "acme", None, 1))[0]
    assert (row.action, row.detail["new_password"], row.detail["role"]) == ("user.changed", True, "operator")
    assert "chevaux" not in str(row)


async def test_the_user_s_own_name_is_no_password(managed: Administration) -> None:
    with pytest.raises(AuthError, match="name"):
        await managed.add_user(CHEF, BY, "alice.martin", "alice-martin-06", NOTHING)
