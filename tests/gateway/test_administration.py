"""Users, tenants, keys, clients and the audit over HTTP, as administrators, operators, users and programs meet them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import openai
import pytest

from auth.principal import HOUSE, SCOPES_OF_ROLE, TENANTS, scopes_of
from auth.store import UserStore
from tests.house import MODEL, House, house

PASSWORD: Final = "une phrase de passe"
CLIENT: Final = "client_credentials"
SOON_S: Final = 5.0  # what is taken back holds nowhere after so long


class Reply(NamedTuple):
    status: int
    body: Any
    request_id: str

    @property
    def code(self) -> Any:
        return self.body["error"]["code"]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, limits={"requests_per_minute": 1000}) as running:
        yield running


async def call(home: House, token: str, method: str, path: str, body: Any = None, **params: Any) -> Reply:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, home.url + path, headers=headers, json=body, params=params) as answer,
    ):
        return Reply(answer.status, await answer.json(), answer.headers["x-request-id"])


async def made(home: House, token: str, path: str, **body: Any) -> dict[str, Any]:
    reply = await call(home, token, "POST", path, body)
    assert reply.status == 201, reply
    return dict(reply.body)


async def granted(home: House, grant: str, headers: dict[str, str] | None = None, **form: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{home.url}/auth/token", data={"grant_type": grant, **form}, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def login(home: House, password: str = PASSWORD) -> tuple[int, Any]:
    return await granted(home, "password", username="zoe", password=password)


def staff(home: House, role: str = "admin") -> str:
    return home.token("boss", scopes=SCOPES_OF_ROLE[role])


def root(home: House) -> str:
    return home.token("root", scopes=scopes_of("admin", HOUSE), tenant=HOUSE)


async def asks(home: House, key: str) -> str:
    try:
        await home.client_with(key).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Bonjour"}]
        )
    except openai.APIStatusError as error:
        return str(error.code)
    return "answered"


async def soon(check: Callable[[], Awaitable[bool]]) -> bool:
    ends = time.monotonic() + SOON_S
    while time.monotonic() < ends:
        if await check():
            return True
        await asyncio.sleep(0.1)
    return False


async def answered(home: House, *keys: str) -> bool:
    return {await asks(home, key) for key in keys} == {"answered"}


async def refused(home: House, *keys: str) -> bool:
    return {await asks(home, key) for key in keys} == {"invalid_api_key"}


async def walked(home: House, token: str, path: str, by: str, after: str) -> list[Any]:
    found: list[Any] = []
    while True:
        page = (await call(home, token, "GET", path, limit=2, **({after: found[-1]} if found else {}))).body
        found += [row[by] for row in page["data"]]
        if not page["has_more"]:
            return found
        assert len(page["data"]) == 2


async def test_every_list_is_given_page_by_page_without_a_gap_and_without_a_row_twice(home: House) -> None:
    names = [f"user-{number}" for number in range(5)]
    for name in names:
        await UserStore(home.engine).add(name, "-", tenant="acme")
    keys = [(await made(home, staff(home), "/admin/keys", name="k"))["id"] for _ in names]
    clients = [(await made(home, staff(home), "/admin/clients", name=name))["id"] for name in names]
    assert await walked(home, staff(home), "/admin/users", "username", "after") == names
    assert await walked(home, staff(home), "/admin/keys", "id", "after") == sorted(keys)
    assert await walked(home, staff(home), "/admin/clients", "id", "after") == sorted(clients)
    audit = await walked(home, staff(home), "/admin/audit", "id", "before")
    assert audit == sorted(set(audit), reverse=True)
    assert len(audit) == 16  # the tenant was added too


async def test_a_user_is_shown_and_changed_and_what_was_changed_holds_at_the_next_login(home: House) -> None:
    user = await made(home, staff(home), "/admin/users", username="zoe", password=PASSWORD)
    path = f"/admin/users/{user['id']}"
    assert (await call(home, staff(home), "GET", path)).body == user
    change = {"role": "operator", "may_leave": True, "requests_per_minute": 7}
    changed = await call(home, staff(home), "PATCH", path, change)
    assert changed.body == {**user, **change, "scopes": sorted(SCOPES_OF_ROLE["operator"])}
    _, tokens = await login(home)
    assert (await call(home, tokens["access_token"], "GET", "/admin/users")).body["data"] == [changed.body]
    given = {"scopes": [], "may_leave": False, "password": PASSWORD[::-1]}
    assert (await call(home, root(home), "PATCH", path, given)).body["scopes"] == []
    assert [(await login(home, password))[0] for password in (PASSWORD, PASSWORD[::-1])] == [400, 200]


async def test_who_is_disabled_is_out_at_once_or_within_seconds_and_so_are_the_keys(home: House) -> None:
    user = await made(home, staff(home), "/admin/users", username="zoe", password=PASSWORD)
    _, tokens = await login(home)
    own = await made(home, tokens["access_token"], "/auth/keys", name="mine")
    given = await made(home, staff(home), "/admin/keys", name="hers", owner=user["id"])
    comes_with = (tokens["access_token"], own["key"], given["key"])
    assert await answered(home, *comes_with)
    path = f"/admin/users/{user['id']}"
    assert (await call(home, staff(home, "operator"), "PATCH", path, {"disabled": True})).body["disabled"] is True
    status, body = await granted(home, "refresh_token", refresh_token=tokens["refresh_token"])
    assert (status, body["error"]) == (400, "invalid_grant")
    assert await soon(lambda: refused(home, *comes_with))
    assert (await call(home, staff(home), "PATCH", path, {"disabled": False})).body["disabled"] is False
    assert await answered(home, (await login(home))[1]["access_token"])
    assert await refused(home, tokens["access_token"])


async def test_a_key_does_what_its_scopes_allow_until_it_expires(home: House) -> None:
    end = datetime.now(UTC) + timedelta(seconds=1.5)
    key = await made(home, staff(home), "/admin/keys", name="k", scopes=["chat"], expires_at=end.isoformat())
    assert await asks(home, key["key"]) == "answered"
    assert (await call(home, key["key"], "GET", "/v1/models")).code == "missing_scope"
    await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 0.01)
    assert await asks(home, key["key"]) == "invalid_api_key"
    late = await call(home, staff(home), "POST", "/admin/keys", {"name": "k", "expires_at": end.isoformat()})
    assert (late.status, late.body["error"]["param"]) == (400, "expires_at")


async def test_a_key_s_last_use_is_seen_and_once_revoked_it_is_refused_within_seconds(home: House) -> None:
    key = await made(home, staff(home), "/admin/keys", name="k")
    assert key["last_used_at"] is None
    assert await asks(home, key["key"]) == "answered"
    rows: list[dict[str, Any]] = []

    async def used() -> bool:
        rows[:] = (await call(home, staff(home), "GET", "/admin/keys")).body["data"]
        return rows[0]["last_used_at"] is not None

    assert await soon(used)
    assert datetime.now(UTC) - datetime.fromisoformat(rows[0]["last_used_at"]) < timedelta(seconds=2 * SOON_S)
    gone = await call(home, staff(home, "operator"), "DELETE", f"/admin/keys/{key['id']}")
    assert gone.body["revoked_at"]
    assert await soon(lambda: refused(home, key["key"]))
    assert (await call(home, staff(home, "operator"), "DELETE", f"/admin/keys/{key['id']}")).body == gone.body


async def test_users_make_see_and_revoke_keys_of_their_own_and_a_key_makes_none(home: House) -> None:
    scopes = SCOPES_OF_ROLE["member"]
    users = [await UserStore(home.engine).add(name, "-", tenant="acme", scopes=scopes) for name in ("zoe", "max")]
    zoe, other = (home.token(user.id) for user in users)
    key = await made(home, zoe, "/auth/keys", name="mine", scopes=sorted(scopes))
    assert (key["owner"], key["tenant"], key["created_by"]) == (users[0].id, "acme", users[0].id)
    assert [row["id"] for row in (await call(home, zoe, "GET", "/auth/keys")).body["data"]] == [key["id"]]
    assert (await call(home, other, "GET", "/auth/keys")).body["data"] == []
    assert (await call(home, other, "DELETE", f"/auth/keys/{key['id']}")).code == "unknown_key"
    assert (await call(home, key["key"], "POST", "/auth/keys", {"name": "k"})).code == "not_yours_to_give"
    assert (await call(home, zoe, "DELETE", f"/auth/keys/{key['id']}")).body["revoked_at"]


@pytest.mark.parametrize("in_header", [True, False], ids=["in the header", "in the body"])
async def test_a_client_gets_tokens_by_its_secret_until_it_is_disabled(home: House, in_header: bool) -> None:
    async def token(secret: str) -> tuple[int, Any]:
        if in_header:
            return await granted(home, CLIENT, {"authorization": aiohttp.encode_basic_auth(client["id"], secret)})
        return await granted(home, CLIENT, client_id=client["client_id"], client_secret=secret)

    client = await made(home, staff(home), "/admin/clients", name="batch", scopes=["chat"])
    path = f"/admin/clients/{client['client_id']}"
    new = (await call(home, staff(home), "POST", f"{path}/secret")).body["client_secret"]
    assert (await token(client["client_secret"]))[1]["error"] == "invalid_client"
    status, body = await token(new)
    assert (status, body["scope"], "refresh_token" in body) == (200, "chat", False)
    assert await asks(home, body["access_token"]) == "answered"
    assert (await call(home, staff(home, "operator"), "PATCH", path, {"disabled": True})).body["disabled"] is True
    assert (await token(new))[0] == 401
    assert await soon(lambda: refused(home, body["access_token"]))


async def test_a_closed_tenant_is_let_in_nowhere_until_it_is_opened_again(home: House) -> None:
    await made(home, root(home), "/admin/tenants", name="acme/paris")
    assert (await call(home, root(home), "POST", "/admin/tenants", {"name": "acme/paris"})).code == "name_taken"
    key = await made(home, root(home), "/admin/keys", name="k", tenant="acme/paris")
    token = home.token(tenant="acme/paris")
    assert await answered(home, key["key"], token)
    closed = await call(home, root(home), "PATCH", "/admin/tenants/acme/paris", {"disabled": True})
    assert (closed.body["name"], closed.body["disabled"]) == ("acme/paris", True)
    assert await soon(lambda: refused(home, key["key"], token))
    assert (await call(home, root(home), "POST", "/admin/keys", {"name": "k", "tenant": "acme/paris"})).status == 409
    assert (await call(home, root(home), "PATCH", f"/admin/tenants/{HOUSE}", {"disabled": True})).status == 400
    opened = await call(home, root(home), "PATCH", "/admin/tenants/acme/paris", {"disabled": False})
    assert opened.body in (await call(home, root(home), "GET", "/admin/tenants")).body["data"]
    assert await soon(lambda: answered(home, key["key"], token))


USER, KEY, YOURS = {"username": "new", "password": PASSWORD}, {"name": "new"}, "not_yours_to_give"
REFUSED: Final[list[tuple[str, str, str, dict[str, Any], str]]] = [
    *(
        ("admin", "POST", path, {**new, **more}, YOURS)
        for path, new in (("/admin/users", USER), ("/admin/keys", KEY), ("/admin/clients", KEY), ("/auth/keys", KEY))
        for more in ({"scopes": ["chat", TENANTS]}, {"may_leave": True}, {"requests_per_minute": 1001})
    ),
    *(
        ("admin", "PATCH", "/admin/users/{member}", change, YOURS)
        for change in ({"scopes": [TENANTS]}, {"may_leave": True}, {"requests_per_minute": 1001})
    ),
    ("admin", "PATCH", "/admin/users/{root}", {"disabled": True}, YOURS),
    ("admin", "PATCH", "/admin/users/{root}", {"password": PASSWORD}, YOURS),
    ("member", "POST", "/auth/keys", {**KEY, "scopes": ["admin"]}, YOURS),
    ("operator", "PATCH", "/admin/users/{admin}", {"disabled": True}, YOURS),
    ("operator", "PATCH", "/admin/users/{member}", {"disabled": False}, "missing_scope"),
    ("operator", "PATCH", "/admin/users/{member}", {"disabled": True, "scopes": ["chat"]}, "missing_scope"),
]


async def test_nobody_gives_a_right_or_changes_somebody_with_a_right_that_they_do_not_have(home: House) -> None:
    rights = {**SCOPES_OF_ROLE, "root": scopes_of("admin", HOUSE)}
    ids = {
        role: (await UserStore(home.engine).add(role, "-", tenant="acme", scopes=scopes)).id
        for role, scopes in rights.items()
    }
    for role, method, path, body, code in REFUSED:
        token = home.token(ids[role], scopes=rights[role], may_leave=False)
        reply = await call(home, token, method, path.format(**ids), body)
        assert (reply.status, reply.code) == (403, code), (role, method, path, body)
    audit = await call(home, home.token(scopes=rights["root"]), "GET", "/admin/audit")
    assert [row["action"] for row in audit.body["data"]] == ["user.added"] * 5 + ["tenant.added"]


async def test_every_change_of_a_right_is_in_the_audit_and_no_secret_is_kept_or_shown_again(home: House) -> None:
    done: dict[str, str] = {}

    async def does(action: str, method: str, path: str, body: Any = None) -> Any:
        reply = await call(home, staff(home), method, path, body)
        done[reply.request_id] = action
        return reply.body

    await made(home, root(home), "/admin/tenants", name="acme")
    user = await does("user.added", "POST", "/admin/users", {"username": "zoe", "password": PASSWORD})
    key = await does("key.added", "POST", "/admin/keys", {"name": "k", "owner": user["id"]})
    client = await does("client.added", "POST", "/admin/clients", {"name": "batch"})
    zoe, batch = f"/admin/users/{user['id']}", f"/admin/clients/{client['id']}"
    await does("user.changed", "PATCH", zoe, {"scopes": ["chat"], "disabled": True})
    await does("user.password", "PATCH", zoe, {"password": PASSWORD[::-1]})
    await does("client.changed", "PATCH", batch, {"requests_per_minute": 9})
    secret = await does("client.secret", "POST", f"{batch}/secret")
    await does("key.revoked", "DELETE", f"/admin/keys/{key['id']}")
    replies = [await call(home, staff(home), "GET", f"/admin/{rows}") for rows in ("users", "keys", "clients", "audit")]
    *rows, first = replies[-1].body["data"]
    assert (first["action"], first["object"], first["actor"]) == ("tenant.added", "tenant:acme", "root")
    assert {row["request_id"]: row["action"] for row in reversed(rows)} == done
    assert {(row["actor"], row["actor_tenant"], row["address"]) for row in rows} == {("boss", "acme", "127.0.0.1")}
    assert all(datetime.now(UTC) - datetime.fromisoformat(row["at"]) < timedelta(minutes=1) for row in rows)
    assert {row["object"] for row in rows} == {f"user:{user['id']}", f"key:{key['id']}", f"client:{client['id']}"}
    assert {"scopes": "chat", "disabled": True} in [row["detail"] for row in rows if row["action"] == "user.changed"]
    files = [path.read_bytes() for path in home.settings.state.directory.rglob("*") if path.is_file()]
    kept = b"".join([*files, *(repr(reply.body).encode() for reply in replies)])
    assert key["hint"].encode() in kept
    for shown_once in (PASSWORD, PASSWORD[::-1], key["key"], client["client_secret"], secret["client_secret"]):
        assert shown_once.encode() not in kept
