"""Refresh tokens, service clients and revocation, over a real server on both databases (RFC 6749, RFC 7009, RFC 9700)."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from auth.audit import entries
from auth.errors import InvalidToken
from auth.keys import FRESH_S, ApiKeys
from auth.rights import Grant
from auth.signing import KeySet
from auth.tables import refresh_tokens
from auth.tenants import TenantStore
from tests.auth.forge import NOW
from tests.auth.server import SEALER, Server, running


class Clock:
    """Seconds since 1970, as far as a test lets them pass."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(tmp_path: Path, keys: KeySet, database_url: str, clock: Clock) -> AsyncIterator[Server]:
    async with running(tmp_path, keys, url=database_url, now=clock) as server:
        yield server


async def login(server: Server) -> dict[str, str]:
    status, body, _ = await server.ask()
    assert status == 200
    return dict(body)


async def refresh(server: Server, token: str, **fields: str) -> tuple[int, dict[str, str]]:
    status, body, headers = await server.grant("refresh_token", refresh_token=token, **fields)
    assert headers["cache-control"] == "no-store"
    return status, body


async def holds(server: Server, token: str) -> bool:
    """As any worker sees it once it has read the list of what is revoked."""
    await server.revocations.refresh()
    try:
        server.tokens.verify(token)
    except InvalidToken:
        return False
    return True


async def test_a_refresh_token_gives_a_new_access_token_and_a_new_refresh_token(server: Server) -> None:
    first = await login(server)
    status, second = await refresh(server, first["refresh_token"])
    assert (status, second["scope"], second["token_type"]) == (200, "chat models", "bearer")
    assert second["refresh_token"] != first["refresh_token"]
    before, after = (server.tokens.verify(body["access_token"]).principal for body in (first, second))
    assert before == after
    assert (await refresh(server, second["refresh_token"]))[0] == 200


async def test_a_token_that_comes_a_second_time_ends_the_family_and_its_access_tokens(server: Server) -> None:
    first = await login(server)
    _, second = await refresh(server, first["refresh_token"])
    other = await login(server)
    status, body = await refresh(server, first["refresh_token"])
    assert (status, body["error"]) == (400, "invalid_grant")
    assert (await refresh(server, second["refresh_token"]))[0] == 400
    assert [await holds(server, each["access_token"]) for each in (first, second, other)] == [False, False, True]
    assert (await refresh(server, other["refresh_token"]))[0] == 200
    row = (await entries(server.engine, "acme", None, 1))[0]
    assert (row.action, row.address, row.actor) == ("session.reused", "127.0.0.1", "anonymous")


async def test_of_ten_who_use_a_token_at_once_one_gets_the_next_and_the_family_ends(server: Server) -> None:
    first = await login(server)
    answers = await asyncio.gather(*(refresh(server, first["refresh_token"]) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200, *[400] * 9]
    (following,) = (body["refresh_token"] for status, body in answers if status == 200)
    assert (await refresh(server, following))[0] == 400


async def test_a_login_ends_after_its_time_however_often_it_was_renewed(server: Server, clock: Clock) -> None:
    token = (await login(server))["refresh_token"]
    for _ in range(3):
        clock.now += 86_400 / 4
        status, body = await refresh(server, token)
        assert status == 200
        token = body["refresh_token"]
    clock.now += 86_400 / 4
    assert (await refresh(server, token))[0] == 400


@pytest.mark.parametrize("token", ["psr_wrong", "", "x" * 9000, "psr_\udcff", "a.b.c"])
async def test_what_is_no_refresh_token_is_refused(server: Server, token: str) -> None:
    fields = urlencode({"grant_type": "refresh_token", "refresh_token": token}, errors="surrogatepass")
    status, body, _ = await server.post(fields)
    assert (status, body["error"]) == (400, "invalid_grant" if token and "\udcff" not in token else "invalid_request")


async def test_scopes_can_be_narrowed_for_one_token_and_never_widened(server: Server) -> None:
    first = await login(server)
    _, narrow = await refresh(server, first["refresh_token"], scope="chat")
    assert narrow["scope"] == "chat"
    status, body = await refresh(server, narrow["refresh_token"], scope="chat admin")
    assert (status, body["error"]) == (400, "invalid_scope")
    assert (await refresh(server, narrow["refresh_token"]))[1]["scope"] == "chat models"
    status, body = await refresh(server, "psr_unknown", scope="chat")
    assert (status, body["error"]) == (400, "invalid_grant")


async def test_rights_taken_away_are_gone_from_the_next_token_and_void_the_present_one(server: Server) -> None:
    first = await login(server)
    user = await server.users.named("alice")
    await server.users.change(user.id, scopes={"models"})
    assert not await holds(server, first["access_token"])
    _, second = await refresh(server, first["refresh_token"])
    assert second["scope"] == "models"
    assert await holds(server, second["access_token"])


@pytest.mark.parametrize("change", ["disabled", "password"])
async def test_a_disabled_user_or_a_new_password_ends_every_login(server: Server, change: str) -> None:
    first = await login(server)
    if change == "disabled":
        await server.users.disable("alice")
    else:
        await server.users.set_password_hash("alice", "another")
    assert (await refresh(server, first["refresh_token"]))[0] == 400
    assert not await holds(server, first["access_token"])


async def test_a_closed_tenant_lets_nobody_in_until_it_is_opened(server: Server) -> None:
    client, secret = await server.clients.add("ci", Grant(frozenset({"chat"})), tenant="acme")
    first, tenants = await login(server), TenantStore(server.engine)
    await tenants.change("acme", disabled=True)
    await server.revocations.refresh()
    assert server.revocations.tenant("acme")
    assert (await server.ask())[0] == 400
    assert (await refresh(server, first["refresh_token"]))[0] == 400
    assert (await server.grant("client_credentials", client_id=client.id, client_secret=secret))[0] == 401
    await tenants.change("acme", disabled=False)
    await server.revocations.refresh()
    assert not server.revocations.tenant("acme")
    assert (await server.ask())[0] == 200


async def test_no_refresh_token_is_stored(server: Server) -> None:
    token = (await login(server))["refresh_token"]
    async with server.engine.connect() as connection:
        rows = (await connection.execute(refresh_tokens.select())).all()
    assert len(rows) == 1
    assert token not in str(rows)
    assert token.removeprefix("psr_") not in str(rows)


@pytest.mark.parametrize("way", ["header", "body", "header, percent-encoded"])
async def test_a_client_gets_a_token_for_itself_and_no_refresh_token(server: Server, way: str) -> None:
    rights = Grant(frozenset({"chat", "usage"}), may_leave=True, requests_per_minute=7)
    client, secret = await server.clients.add("rapports", rights, tenant="acme")
    if way == "body":
        answer = await server.grant("client_credentials", client_id=client.id, client_secret=secret)
    else:
        spelt = "".join(f"%{ord(letter):02x}" for letter in secret) if "percent" in way else quote(secret)
        basic = base64.b64encode(f"{client.id}:{spelt}".encode()).decode()
        answer = await server.post("grant_type=client_credentials", authorization=f"bAsIc {basic}")
    status, body, _ = answer
    assert (status, body["scope"], "refresh_token" in body) == (200, "chat usage", False)
    principal = server.tokens.verify(body["access_token"]).principal
    assert (principal.subject, principal.kind, principal.tenant) == (client.id, "client", "acme")
    assert (principal.may_leave, principal.requests_per_minute) == (True, 7)


@pytest.mark.parametrize(
    ("authorization", "fields"),
    [
        (None, {}),
        (None, {"client_id": "ID"}),
        (None, {"client_id": "ID", "client_secret": "pss_wrong"}),
        (None, {"client_id": "nobody", "client_secret": "SECRET"}),
        (None, {"client_id": "x" * 5000, "client_secret": "SECRET"}),
        (None, {"client_id": "a\0b", "client_secret": "SECRET"}),
        ("Basic", {}),
        ("Basic %%%", {}),
        ("Basic " + base64.b64encode(b"no colon").decode(), {}),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), {}),
        ("Bearer a.b.c", {}),
    ],
)
async def test_any_other_client_is_an_invalid_client_with_a_challenge(
    server: Server, authorization: str | None, fields: dict[str, str]
) -> None:
    client, secret = await server.clients.add("ci", Grant(frozenset({"chat"})), tenant="acme")
    real = {"ID": client.id, "SECRET": secret}
    form = urlencode({"grant_type": "client_credentials", **{name: real.get(v, v) for name, v in fields.items()}})
    status, body, headers = await server.post(form, **({"authorization": authorization} if authorization else {}))
    assert (status, body["error"], set(body)) == (401, "invalid_client", {"error", "error_description"})
    assert headers["www-authenticate"].startswith("Basic")


async def test_a_secret_given_twice_is_an_invalid_request(server: Server) -> None:
    client, secret = await server.clients.add("ci", Grant(frozenset({"chat"})), tenant="acme")
    basic = base64.b64encode(f"{client.id}:{secret}".encode()).decode()
    form = urlencode({"grant_type": "client_credentials", "client_id": client.id, "client_secret": secret})
    status, body, _ = await server.post(form, authorization=f"Basic {basic}")
    assert (status, body["error"]) == (400, "invalid_request")


async def test_a_new_secret_and_a_disabling_void_the_old_one_and_its_tokens(server: Server) -> None:
    client, secret = await server.clients.add("ci", Grant(frozenset({"chat"})), tenant="acme")
    _, body, _ = await server.grant("client_credentials", client_id=client.id, client_secret=secret)
    second = await server.clients.new_secret(client.id)
    assert not await holds(server, body["access_token"])
    assert (await server.grant("client_credentials", client_id=client.id, client_secret=secret))[0] == 401
    _, body, _ = await server.grant("client_credentials", client_id=client.id, client_secret=second)
    assert await holds(server, body["access_token"])
    await server.clients.change(client.id, disabled=True)
    assert not await holds(server, body["access_token"])
    assert (await server.grant("client_credentials", client_id=client.id, client_secret=second))[0] == 401
    await server.clients.change(client.id, disabled=False)
    assert (await server.grant("client_credentials", client_id=client.id, client_secret=second))[0] == 200


async def test_an_access_token_that_is_revoked_is_void_and_others_are_not(server: Server) -> None:
    first, other = await login(server), await login(server)
    assert await server.revoke(first["access_token"]) == 200
    assert [await holds(server, each["access_token"]) for each in (first, other)] == [False, True]
    assert (await refresh(server, first["refresh_token"]))[0] == 200


async def test_a_refresh_token_that_is_revoked_takes_its_login_along(server: Server) -> None:
    first = await login(server)
    _, second = await refresh(server, first["refresh_token"])
    assert await server.revoke(first["refresh_token"]) == 200
    assert (await refresh(server, second["refresh_token"]))[0] == 400
    assert not await holds(server, second["access_token"])


async def test_whoever_holds_an_api_key_can_revoke_it(server: Server) -> None:
    key, secret = await server.keys.add("ci", Grant(frozenset({"chat"})), tenant="acme")
    checked = ApiKeys(server.keys, SEALER)
    assert (await checked.verify(secret)).tenant == "acme"
    assert await server.revoke(secret) == 200
    assert (await server.keys.get(key.id)).revoked_at is not None
    with pytest.raises(InvalidToken):
        await ApiKeys(server.keys, SEALER, clock=lambda: FRESH_S + 1).verify(secret)


@pytest.mark.parametrize("token", ["nothing", "psr_nothing", "psl_nothing", "a.b.c", "psl_" + "0" * 49, "é"])
async def test_revoking_what_does_not_hold_is_no_error(server: Server, token: str) -> None:
    assert await server.revoke(token) == 200


async def test_a_revocation_without_a_token_is_an_invalid_request(server: Server) -> None:
    status, body, _ = await server.post("token_type_hint=access_token", path="/auth/revoke")
    assert (status, body["error"]) == (400, "invalid_request")


async def test_what_is_revoked_is_forgotten_when_every_token_of_then_has_expired(server: Server, clock: Clock) -> None:
    await server.revoke((await login(server))["access_token"])
    clock.now += 86_400
    await server.revocations.forget()
    async with server.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM revocations")).scalar() == 0


async def test_the_metadata_name_the_endpoints_under_the_public_address(tmp_path: Path, keys: KeySet) -> None:
    async with (
        running(tmp_path, keys, public_url="https://ia.exemple.fr/") as server,
        server.http.get(f"{server.url}/.well-known/oauth-authorization-server") as answer,
    ):
        document = await answer.json()
    assert document["token_endpoint"] == "https://ia.exemple.fr/auth/token"
    assert document["jwks_uri"] == "https://ia.exemple.fr/.well-known/jwks.json"
    assert document["grant_types_supported"] == ["password", "refresh_token", "client_credentials"]
    assert "public" in answer.headers["cache-control"]


async def test_without_a_public_address_nobody_may_keep_the_metadata_for_somebody_else(server: Server) -> None:
    url = f"{server.url}/.well-known/oauth-authorization-server"
    async with server.http.get(url, headers={"host": "evil.test"}) as answer:
        assert answer.headers["cache-control"] == "no-store"
        assert (await answer.json())["token_endpoint"] == "http://evil.test/auth/token"
    async with server.http.get(url) as answer:
        document = await answer.json()
        assert document["issuer"] == "https://passerelle.test"
        assert document["revocation_endpoint"] == f"{server.url}/auth/revoke"
