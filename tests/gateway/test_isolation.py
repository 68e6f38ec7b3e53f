"""Whatever a caller of one tenant does, nothing of another tenant is shown or changed, nor is it told that it is there."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from auth import tables
from auth.audit import Actor
from auth.clients import ClientStore
from auth.keys import KeyStore
from auth.principal import ADMIN, HOUSE, OPERATE, SCOPES, SCOPES_OF_ROLE, TENANTS, scopes_of
from auth.rights import Grant
from auth.store import UserStore
from gateway.identities import sealer
from tests.house import House, house

IN_REACH: Final = SCOPES - {TENANTS}
CALLERS: Final = ("member", "operator", "admin", "key", "mixed")


class Call(NamedTuple):
    """A request; `{user}`, `{key}`, `{client}` and `{tenant}` stand for somebody's."""

    method: str
    path: str
    body: dict[str, Any] | None = None


PASSWORD: Final = "une phrase de passe"
CHANGES: Final[list[dict[str, Any]]] = [
    {"disabled": True},
    {"disabled": False},
    {"may_leave": True},
    {"scopes": []},
    {"scopes": ["chat"], "requests_per_minute": 5},
    {"requests_per_minute": None},
]
# What is aimed at the other tenant: refused to everybody, and as if there was nothing.
AIMED: Final = [
    *(Call("GET", f"/admin/{rows}?tenant={{tenant}}") for rows in ("users", "keys", "clients", "audit", "status")),
    Call("GET", "/admin/users/{user}"),
    *(Call("PATCH", "/admin/users/{user}", body) for body in CHANGES),
    Call("PATCH", "/admin/users/{user}", {"password": PASSWORD}),
    Call("PATCH", "/admin/users/{user}", {"role": "admin"}),
    Call("POST", "/admin/users", {"username": "{new}", "password": PASSWORD, "tenant": "{tenant}"}),
    Call("DELETE", "/admin/keys/{key}"),
    Call("DELETE", "/auth/keys/{key}"),
    Call("POST", "/admin/keys", {"name": "k", "tenant": "{tenant}"}),
    Call("POST", "/admin/keys", {"name": "k", "tenant": "{tenant}", "owner": "{user}"}),
    Call("POST", "/admin/keys", {"name": "k", "owner": "{user}"}),
    Call("GET", "/admin/clients/{client}"),
    *(Call("PATCH", "/admin/clients/{client}", body) for body in CHANGES),
    Call("POST", "/admin/clients/{client}/secret"),
    Call("POST", "/admin/clients", {"name": "{new}", "tenant": "{tenant}"}),
    Call("POST", "/admin/tenants", {"name": "{tenant}"}),
    *(Call("PATCH", "/admin/tenants/{tenant}", {"disabled": disabled}) for disabled in (True, False)),
    # An id of one kind is none of another.
    Call("GET", "/admin/users/{client}"),
    Call("GET", "/admin/clients/{user}"),
    Call("DELETE", "/auth/keys/{user}"),
]
# What is about the caller's own tenant: allowed to some, and shows nothing of another one.
OWN: Final = [
    Call("GET", "/admin/tenants"),
    *(Call("GET", f"/admin/{rows}") for rows in ("users", "keys", "clients", "audit", "users?limit=1")),
    *(Call("GET", f"/admin/{rows}s?after={{{rows}}}") for rows in ("user", "key", "client")),
    Call("GET", "/admin/audit?before=1000000"),
    Call("GET", "/admin/status"),
    Call("GET", "/auth/keys"),
    Call("GET", "/auth/keys?after={key}"),
    Call("POST", "/auth/keys", {"name": "k", "scopes": ["chat"]}),
    Call("POST", "/admin/users", {"username": "{new}", "password": PASSWORD, "scopes": []}),
    Call("POST", "/admin/keys", {"name": "k", "scopes": ["chat"]}),
    Call("POST", "/admin/clients", {"name": "{new}", "scopes": []}),
    Call("GET", "/v1/models"),
]


@dataclass(frozen=True)
class Tenant:
    """A tenant with a user of every role, keys and a client. `tokens` are what its callers come with."""

    name: str
    ids: dict[str, str]
    traces: frozenset[str]
    tokens: dict[str, str]


class Answer(NamedTuple):
    """All of an answer but what differs from one to the next anyhow."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One gateway for all examples."""
    async with house(tmp_path_factory.mktemp("shared")) as running:
        yield running


async def settled(home: House) -> Tenant:
    """A new tenant, every name in which is random."""
    name, sealed = f"tenant-{uuid.uuid4().hex}", sealer(home.settings)
    users, keys, clients = UserStore(home.engine), KeyStore(home.engine, sealed), ClientStore(home.engine, sealed)
    by = Actor(f"root-{uuid.uuid4().hex}", name)
    people = {
        role: await users.add(f"user-{uuid.uuid4().hex}", "-", tenant=name, role=role, scopes=scopes, by=by)
        for role, scopes in {**SCOPES_OF_ROLE, "mixed": IN_REACH}.items()
    }
    rights = Grant(scopes=IN_REACH)
    owned, secret = await keys.add(f"key-{uuid.uuid4().hex}", rights, tenant=name, owner=people["admin"].id, by=by)
    free, _ = await keys.add(f"key-{uuid.uuid4().hex}", rights, tenant=name, by=by)
    client, _ = await clients.add(f"client-{uuid.uuid4().hex}", rights, tenant=name, by=by)
    traces = {name, by.subject, client.id, client.name}
    traces |= {trace for user in people.values() for trace in (user.id, user.username)}
    traces |= {trace for key in (owned, free) for trace in (key.id, key.name, key.hint)}
    tokens = {
        role: home.token(user.id, tenant=name, scopes=user.scopes, may_leave=False) for role, user in people.items()
    }
    ids = {"tenant": name, "user": people["member"].id, "key": owned.id, "client": client.id}
    return Tenant(name, ids, frozenset(traces), tokens | {"key": secret})


def nobody() -> dict[str, str]:
    """Ids of nothing."""
    return {kind: str(uuid.uuid4()) for kind in ("user", "key", "client")} | {"tenant": f"tenant-{uuid.uuid4().hex}"}


def _filled(template: Any, ids: dict[str, str]) -> Any:
    if isinstance(template, dict):
        return {name: _filled(value, ids) for name, value in template.items()}
    if not isinstance(template, str):
        return template
    return re.sub(r"\{(\w+)\}", lambda match: {"new": uuid.uuid4().hex, **ids}[match[1]], template)


async def sent(home: House, call: Call, token: str, ids: dict[str, str]) -> Answer:
    headers = {"authorization": f"Bearer {token}"}
    body = {} if call.body is None else {"json": _filled(call.body, ids)}
    async with (
        aiohttp.ClientSession() as session,
        session.request(call.method, home.url + _filled(call.path, ids), headers=headers, **body) as answer,
    ):
        kept = [(name.lower(), value) for name, value in answer.headers.items()]
        steady = tuple(sorted(header for header in kept if header[0] not in ("x-request-id", "date")))
        return Answer(answer.status, steady, await answer.read())


async def rows_of(home: House, tenant: Tenant) -> dict[str, list[Any]]:
    """All that the database holds about a tenant."""
    found = {}
    async with home.engine.connect() as connection:
        for table in (tables.tenants, tables.users, tables.api_keys, tables.clients, tables.audit):
            column = table.c.name if table is tables.tenants else table.c.tenant
            query = select(table).where(column == tenant.name).order_by(*table.primary_key)
            found[table.name] = [tuple(row) for row in await connection.execute(query)]
        taken_back = select(tables.revocations).where(tables.revocations.c.id.in_(tenant.traces))
        found["revocations"] = [tuple(row) for row in await connection.execute(taken_back)]
    return found


def shown_of(tenant: Tenant, answer: Answer) -> set[str]:
    """What of a tenant is in an answer."""
    whole = answer.body + repr(answer.headers).encode()
    return {trace for trace in tenant.traces if trace.encode() in whole}


Step = tuple[str, frozenset[str], Call]


def steps() -> st.SearchStrategy[list[Step]]:
    """Calls, each by one of the callers; the scopes are those of the caller named `mixed`."""
    scopes = st.frozensets(st.sampled_from(sorted(IN_REACH)))
    step = st.tuples(st.sampled_from(CALLERS), scopes, st.sampled_from([*AIMED, *OWN]))
    return st.lists(step, min_size=1, max_size=15)


async def taken(home: House, mine: Tenant, other: Tenant, step: Step) -> None:
    """Do one step as a caller of `mine` against `other`, and check the answer."""
    role, scopes, call = step
    token = home.token(mine.ids["user"], tenant=mine.name, scopes=scopes) if role == "mixed" else mine.tokens[role]
    answer = await sent(home, call, token, other.ids)
    assert answer.status < 500
    assert shown_of(other, answer) == set()
    if call in AIMED:
        assert answer.status in (403, 404)
        assert answer == await sent(home, call, token, nobody())
    else:
        assert answer.status in (200, 201, 403)


@settings(max_examples=25)
@given(steps=steps())
async def test_nothing_of_another_tenant_is_shown_changed_or_told_to_be_there(shared: House, steps: list[Step]) -> None:
    mine, other = await settled(shared), await settled(shared)
    before = await rows_of(shared, other)
    for step in steps:
        await taken(shared, mine, other, step)
    assert await rows_of(shared, other) == before


@pytest.mark.parametrize("role", ["admin", "key", "mixed"])
async def test_who_has_every_scope_but_tenants_is_refused_whatever_is_aimed_at_another_one(
    shared: House, role: str
) -> None:
    mine, other = await settled(shared), await settled(shared)
    before = await rows_of(shared, other)
    for call in AIMED:
        await taken(shared, mine, other, (role, IN_REACH, call))
    assert await rows_of(shared, other) == before


async def test_a_caller_is_shown_the_own_tenant_where_the_other_one_is_not(shared: House) -> None:
    mine, other = await settled(shared), await settled(shared)
    seen: set[str] = set()
    for call in OWN:
        answer = await sent(shared, call, mine.tokens["admin"], other.ids)
        assert answer.status in (200, 201)
        assert shown_of(other, answer) == set()
        seen |= shown_of(mine, answer)
    assert seen == mine.traces


async def test_the_one_thing_told_of_another_tenant_is_that_a_user_name_is_taken(shared: House) -> None:
    mine, other = await settled(shared), await settled(shared)
    taken_name = next(trace for trace in other.traces if trace.startswith("user-"))
    call = Call("POST", "/admin/users", {"username": taken_name, "password": PASSWORD, "scopes": []})
    answer = await sent(shared, call, mine.tokens["admin"], other.ids)
    assert answer.status == 409
    assert shown_of(other, answer) == {taken_name}  # as it was sent


async def test_who_has_the_scope_tenants_sees_both_and_either(shared: House) -> None:
    tenants = [await settled(shared), await settled(shared)]
    token = shared.token("root", tenant=HOUSE, scopes={OPERATE, TENANTS})
    for rows in ("users", "keys", "clients", "audit"):
        for path in (f"/admin/{rows}?limit=1000", f"/admin/{rows}?limit=1000&tenant={{tenant}}"):
            answers = [await sent(shared, Call("GET", path), token, tenant.ids) for tenant in tenants]
            assert [answer.status for answer in answers] == [200, 200]
            assert all(shown_of(*pair) for pair in zip(tenants, answers, strict=True))
            both = [shown_of(*pair) for pair in zip(tenants, reversed(answers), strict=True)]
            assert all(both) if "tenant=" not in path else not any(both)
    for path in ("/admin/users/{user}", "/admin/clients/{client}"):
        assert [(await sent(shared, Call("GET", path), token, tenant.ids)).status for tenant in tenants] == [200, 200]
    listed = await sent(shared, Call("GET", "/admin/tenants"), token, {})
    assert all(tenant.name in shown_of(tenant, listed) for tenant in tenants)


async def test_who_has_the_scope_tenants_changes_what_lies_in_any(shared: House) -> None:
    other = await settled(shared)
    token = shared.token("root", tenant=HOUSE, scopes=scopes_of("admin", HOUSE))
    for call in (
        Call("PATCH", "/admin/users/{user}", {"scopes": ["chat"]}),
        Call("PATCH", "/admin/clients/{client}", {"disabled": True}),
        Call("POST", "/admin/clients/{client}/secret"),
        Call("DELETE", "/admin/keys/{key}"),
        Call("PATCH", "/admin/tenants/{tenant}", {"disabled": True}),
    ):
        assert (await sent(shared, call, token, other.ids)).status == 200
    refused = await sent(shared, Call("POST", "/admin/clients", {"name": "c", "tenant": "{tenant}"}), token, other.ids)
    assert refused.status == 409


async def test_the_scope_tenants_alone_shows_nothing(shared: House) -> None:
    other = await settled(shared)
    token = shared.token("root", tenant=HOUSE, scopes={TENANTS, ADMIN})
    for rows in ("tenants", "users", "keys", "clients", "audit"):
        assert (await sent(shared, Call("GET", f"/admin/{rows}"), token, other.ids)).status == 403
