"""Tokens of every kind at the door of a whole gateway: bad ones, outside ones, and what holds while the database is away."""

import asyncio
import functools
import http.client
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from sqlalchemy.engine import make_url

import gateway.identities
from auth.keys import FRESH_S
from auth.passwords import CHEAPEST, Passwords
from auth.principal import scopes_of
from auth.rights import Grant
from auth.signing import keys_from_folder, keys_from_text, new_pem
from auth.store import UserStore
from auth.tenants import TenantStore
from auth.tokens import Tokens
from gateway.commands.login import Login
from gateway.identities import administrators, sealer
from tests.auth.forge import AUDIENCE, ISSUER, NOW, forge, good_claims, good_header
from tests.auth.provider import EC, HOME, RSA, Provider, Signer
from tests.auth.provider import STRANGER as STRANGER_OF_THEIRS
from tests.auth.test_bad_tokens import STRANGER, TOKENS
from tests.house import LOOKING_ON, MODEL, House, house
from tests.stores import execute


def status_of(home: House, token: bytes) -> int:
    """What a client gets that puts any bytes into the header."""
    address = urlsplit(home.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.putrequest("GET", "/v1/models")
        connection.putheader("Authorization", b"Bearer " + token)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def get(home: House, token: str, path: str = "/v1/models") -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(home.url + path, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_every_bad_token_is_a_401_and_none_a_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.identities, "Tokens", functools.partial(Tokens, now=lambda: NOW))
    async with house(tmp_path, auth={"issuer": ISSUER, "audience": AUDIENCE}) as home:
        key = keys_from_folder(tmp_path / "signing-keys").newest
        assert (await get(home, forge(key, good_header(key), good_claims())))[0] == 200
        found = {}
        for name, make in TOKENS.items():
            token = make(key).encode(errors="surrogatepass")
            found[name] = (
                await asyncio.to_thread(status_of, home, token) if _sendable(token) else 401
            )  # no header can hold it
    assert len(found) >= 60
    # Spaces before the token belong to the header's syntax (RFC 6750, section 2.1), not to the token.
    assert {name: status for name, status in found.items() if status != 401} == {"white space in front": 200}


def _sendable(token: bytes) -> bool:
    return not set(b"\r\n\0") & set(token)


def table(server: Provider, **more: Any) -> dict[str, Any]:
    """The configuration of an outside issuer named acme."""
    plain = {"issuer": HOME, "audience": "passerelle", "jwks_url": server.url, "tenant": "acme", "scope_claim": "roles"}
    return {"issuers": {"acme": {**plain, "scopes": {"assistant": ["chat", "models"]}, **more}}}


def outside(signer: Signer = RSA, **claims: Any) -> str:
    """A token of the outside issuer that holds now, but for what is given."""
    now = int(time.time())
    return signer.token(**{"iat": now, "nbf": now, "exp": now + 900, "roles": ["assistant"], **claims})


async def test_somebody_of_an_outside_issuer_chats_and_is_written_down_as_such(tmp_path: Path) -> None:
    async with Provider.running() as server, house(tmp_path, auth=table(server, may_leave=True)) as home:
        raw = await home.client_with(outside()).chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "Bonjour"}]
        )
        (row,) = await home.ledger(raw.headers["x-request-id"])
        assert (row["tenant"], row["subject"]) == ("acme", "acme:mia")
        assert (await get(home, outside(), "/admin/users"))[0] == 403
        assert (await get(home, outside(roles=[])))[0] == 403


async def test_an_outside_issuer_speaks_for_nobody_but_its_own(tmp_path: Path) -> None:
    async with Provider.running() as server, house(tmp_path, auth=table(server)) as home:
        key = keys_from_folder(tmp_path / "signing-keys").newest
        now = int(time.time())
        ours = {**good_claims(), "iss": "passerelle", "iat": now, "exp": now + 900}
        assert (await get(home, forge(key, good_header(key), ours)))[0] == 200
        bad = {
            "our issuer, signed by theirs": outside(iss="passerelle"),
            "our issuer and kid, signed by theirs": EC.token({"kid": key.kid}, **ours),
            "their issuer, signed by ours": forge(key, good_header(key), {**ours, "iss": HOME}),
            "their issuer and kid, signed by a stranger": outside(STRANGER_OF_THEIRS),
            "their issuer, a stranger's key in the header": forge(
                STRANGER, good_header(STRANGER) | {"jwk": STRANGER.public_jwk}, {**ours, "iss": HOME}
            ),
            "expired by a second": outside(exp=now - 1),
            "from an hour ahead": outside(nbf=now + 3600),
        }
        assert {name: (await get(home, token))[0] for name, token in bad.items()} == dict.fromkeys(bad, 401)


async def test_while_the_issuer_was_never_reached_the_answer_is_503_and_ours_go_on(tmp_path: Path) -> None:
    nowhere = Provider()
    nowhere.url = "http://127.0.0.1:1/jwks"
    async with house(tmp_path, auth=table(nowhere)) as home:
        status, answer = await get(home, outside())
        assert (status, answer["error"]["code"]) == (503, "issuer_unavailable")
        assert (await get(home, home.token()))[0] == 200


async def test_while_the_database_is_away_tokens_and_known_keys_go_on_and_others_are_told_to_come_back(
    tmp_path: Path, postgres_url: str, postgres_database: str
) -> None:
    state = {"database_url": postgres_database}
    async with house(tmp_path, state=state) as home:
        managed = administrators(home.settings, home.engine, sealer(home.settings), Passwords(CHEAPEST))
        known, unknown = [
            (await managed.key_store.add(name, Grant(frozenset({"models"})), tenant="acme"))[1] for name in "ab"
        ]
        assert (await get(home, known))[0] == 200
        name = make_url(postgres_database).database
        await execute(postgres_url, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        await execute(
            postgres_url,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",  # noqa: S608
        )
        await asyncio.sleep(FRESH_S + 0.2)
        assert (await get(home, home.token()))[0] == 200
        assert (await get(home, known))[0] == 200
        status, answer = await get(home, unknown)
        assert (status, answer["error"]["code"]) == (503, "store_unavailable")
        form = {"grant_type": "password", "username": "alice", "password": "x"}
        async with aiohttp.ClientSession() as session, session.post(f"{home.url}/auth/token", data=form) as refused:
            assert (refused.status, "retry-after" in refused.headers) == (503, True)
        await execute(postgres_url, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        await asyncio.sleep(1)  # for so long nobody asks again
        assert (await get(home, unknown))[0] == 200


async def test_the_tenant_of_an_outside_issuer_can_be_closed_before_anybody_of_it_came(tmp_path: Path) -> None:
    async with Provider.running() as server, house(tmp_path, auth=table(server, tenant="nouveau")) as home:
        tenants = TenantStore(home.engine)
        assert [tenant.name for tenant in await tenants.list()] == ["default", "nouveau"]
        assert (await get(home, outside()))[0] == 200
        await tenants.change("nouveau", disabled=True)
        await asyncio.sleep(FRESH_S)
        assert (await get(home, outside()))[0] == 401
    async with Provider.running() as server, house(tmp_path, auth=table(server, tenant="nouveau")) as home:
        assert (await get(home, outside()))[0] == 401


async def test_who_is_told_to_come_back_is_told_once(tmp_path: Path) -> None:
    nowhere = Provider()
    nowhere.url = "http://127.0.0.1:1/jwks"
    headers = {"authorization": f"Bearer {outside()}"}
    async with (
        house(tmp_path, auth=table(nowhere)) as home,
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{home.url}/v1/models") as answer,
    ):
        assert (answer.status, answer.headers.getall("retry-after")) == (503, ["5"])


async def test_a_wrong_parameter_is_named(home: House) -> None:
    token = home.token(scopes=scopes_of("admin", "acme"))
    status, answer = await get(home, token, "/admin/users?limit=0")
    assert (status, answer["error"]["param"]) == (400, "limit")
    assert "greater than or equal to 1" in answer["error"]["message"]


async def test_an_address_that_guesses_waits_and_the_owner_gets_in_from_elsewhere(tmp_path: Path) -> None:
    async with house(tmp_path, auth={"login_per_minute": 1000}) as home:
        hashed = await Passwords(CHEAPEST).hash("une phrase de passe")
        await UserStore(home.engine).add("alice", hashed, tenant="acme", scopes=scopes_of("member", "acme"))
        guesses = [await login(home, "127.0.0.1", f"mauvais {number}") for number in range(7)]
        assert [status for status, _ in guesses] == [400] * 5 + [429] * 2
        assert 0 < int(guesses[-1][1]["retry-after"]) <= 60
        assert (await login(home, "127.0.0.1", "une phrase de passe"))[0] == 429
        assert (await login(home, "127.0.0.7", "une phrase de passe"))[0] == 200


async def test_a_key_has_a_limit_of_its_own_within_its_owner_s(tmp_path: Path) -> None:
    async with house(tmp_path, guards=LOOKING_ON) as home:
        users, keys = (
            UserStore(home.engine),
            administrators(home.settings, home.engine, sealer(home.settings), Passwords(CHEAPEST)).key_store,
        )
        alice = await users.add("alice", "hash", tenant="acme", scopes={"chat"}, requests_per_minute=3)
        tight = (
            await keys.add("tight", Grant(frozenset({"chat"}), requests_per_minute=1), tenant="acme", owner=alice.id)
        )[1]
        wide = (
            await keys.add("wide", Grant(frozenset({"chat"}), requests_per_minute=60), tenant="acme", owner=alice.id)
        )[1]
        assert [await asked(home, key) for key in (tight, tight, wide, wide, wide)] == [200, 429, 200, 200, 429]


async def asked(home: House, key: str) -> int:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}]}
    headers = {"authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{home.url}/v1/chat/completions", json=body) as answer,
    ):
        return answer.status


async def login(home: House, address: str, password: str) -> tuple[int, Any]:
    form = {"grant_type": "password", "username": "alice", "password": password}
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"{home.url}/auth/token", data=form) as answer,
    ):
        return answer.status, answer.headers


async def test_the_signing_key_and_the_secret_of_api_keys_can_come_from_the_configuration(tmp_path: Path) -> None:
    pem = new_pem()
    auth = {"signing_key": pem, "api_key_secret": "a secret of thirty-two bytes or more"}
    async with house(tmp_path, auth=auth) as home:
        managed = administrators(home.settings, home.engine, sealer(home.settings), Passwords(CHEAPEST))
        _, key = await managed.key_store.add("k", Grant(frozenset({"models"})), tenant="acme")
        token = Tokens(keys_from_text(pem), "passerelle", "passerelle").issue("alice", {"models"}, "acme")
        assert [(await get(home, credential))[0] for credential in (key, token)] == [200, 200]
    assert not [name for name in names(tmp_path) if "key" in name]


async def test_a_login_of_a_command_goes_on_beyond_the_life_of_its_token(tmp_path: Path) -> None:
    async with house(tmp_path, auth={"token_seconds": 1}) as home:
        hashed = await Passwords(CHEAPEST).hash("une phrase de passe")
        await UserStore(home.engine).add("alice", hashed, tenant="acme", scopes={"models"})
        begun = await asyncio.to_thread(Login, home.url, "alice", "une phrase de passe")
        assert (await get(home, await asyncio.to_thread(begun.current)))[0] == 200
        await asyncio.sleep(1.1)
        assert (await get(home, begun.token))[0] == 401
        assert (await get(home, await asyncio.to_thread(begun.current)))[0] == 200
