"""Defences of the whole gateway that belong to no single module; docs/threat-model.md says against what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest

from auth.keys import KeyStore
from auth.passwords import CHEAPEST, Passwords
from auth.principal import HOUSE, SCOPES, SCOPES_OF_ROLE
from auth.rights import Grant
from auth.store import UserStore
from gateway.app import create_app
from gateway.commands.worker import uvicorn_config
from gateway.identities import sealer
from gateway.settings import Settings, load
from tests.house import MODEL, House, house
from tests.loopback import serve
from tests.upstream import Exchange, chunk, refuses

ASK: Final[dict[str, Any]] = {"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}]}
CHAT: Final = "/v1/chat/completions"
PASSWORD: Final = "une phrase de passe"
PAGE: Final = "https://page.example"


class Reply(NamedTuple):
    status: int
    text: str
    headers: Any  # by any spelling of their names


async def send(url: str, method: str, path: str, token: str | None = None, **sent: Any) -> Reply:
    headers = {**sent.pop("headers", {}), **({"authorization": f"Bearer {token}"} if token else {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=headers, allow_redirects=False, **sent) as answer,
    ):
        return Reply(answer.status, await answer.text(), answer.headers)


def root(home: House) -> str:
    return home.token("root", tenant=HOUSE, scopes=SCOPES)


def preflight(method: str = "POST", origin: str = PAGE) -> dict[str, str]:
    asked = {"access-control-request-method": method, "access-control-request-headers": "authorization"}
    return {"origin": origin, **asked}


def allowances(reply: Reply) -> dict[str, str]:
    return {name.lower(): value for name, value in reply.headers.items() if name.lower().startswith("access-control")}


async def test_no_page_of_another_origin_may_read_an_answer(home: House) -> None:
    replies = [
        await send(home.url, "POST", CHAT, home.token(), json=ASK, headers={"origin": PAGE}),
        await send(home.url, "POST", CHAT, json=ASK, headers={"origin": PAGE}),
        await send(home.url, "GET", "/openapi.json", headers={"origin": PAGE}),
        await send(home.url, "OPTIONS", CHAT, headers=preflight()),
        await send(home.url, "OPTIONS", "/auth/token", headers=preflight()),
    ]
    assert [reply.status for reply in replies] == [200, 401, 200, 405, 405]
    assert [allowances(reply) for reply in replies] == [{}] * 5


async def test_a_configured_origin_may_read_answers_and_no_other_one_and_none_sends_cookies(tmp_path: Path) -> None:
    async with house(tmp_path, server={"cors_origins": [PAGE]}) as home:
        for origin, allowed in ((PAGE, PAGE), ("https://evil.example", None), ("null", None), (PAGE + ".evil", None)):
            for reply in (
                await send(home.url, "POST", CHAT, home.token(), json=ASK, headers={"origin": origin}),
                await send(home.url, "POST", CHAT, json=ASK, headers={"origin": origin}),
                await send(home.url, "OPTIONS", CHAT, headers=preflight(origin=origin)),
            ):
                assert allowances(reply).get("access-control-allow-origin") == allowed, (origin, reply)
                assert "access-control-allow-credentials" not in allowances(reply)
        assert (await send(home.url, "OPTIONS", CHAT, headers=preflight("PUT"))).status == 400


SAFE: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


async def test_the_headers_that_browsers_heed_are_on_answers_and_on_errors(tmp_path: Path) -> None:
    async with house(tmp_path, limits={"requests_per_minute": 2}) as home:
        token = home.token()
        asked: list[tuple[int, str, str, str | None, dict[str, Any]]] = [
            (200, "POST", CHAT, token, {"json": ASK}),
            (200, "POST", CHAT, token, {"json": {**ASK, "stream": True}}),
            (429, "POST", CHAT, token, {"json": ASK}),
            (401, "POST", CHAT, None, {"json": ASK}),
            (400, "POST", CHAT, home.token("bob"), {"json": {}}),
            (403, "GET", "/admin/users", token, {}),
            (404, "GET", "/nothing", token, {}),
            (405, "DELETE", CHAT, token, {}),
            (400, "POST", "/auth/token", None, {"data": {"grant_type": "password"}}),
            *((200, "GET", path, None, {}) for path in ("/livez", "/readyz", "/metrics", "/openapi.json")),
            (200, "GET", "/.well-known/jwks.json", None, {}),
        ]
        for status, method, path, who, sent in asked:
            reply = await send(home.url, method, path, who, **sent)
            assert reply.status == status, (path, reply)
            assert {name: reply.headers.getall(name) for name in SAFE} == {k: [v] for k, v in SAFE.items()}, path
            assert reply.headers["x-request-id"]


async def test_a_token_counts_in_the_authorization_header_and_nowhere_else(home: House) -> None:
    token = home.token()
    places: list[dict[str, Any]] = [
        {"params": {"access_token": token, "token": token, "api_key": token}},
        {"headers": {"cookie": f"access_token={token}; token={token}; session={token}; Authorization=Bearer {token}"}},
        {"headers": {"x-api-key": token, "api-key": token, "proxy-authorization": f"Bearer {token}"}},
        {"json": {**ASK, "access_token": token, "api_key": token, "authorization": f"Bearer {token}"}},
    ]
    for place in places:
        reply = await send(home.url, "POST", CHAT, **{"json": ASK, **place})
        assert reply.status == 401, place
    assert home.local.asked == []


async def test_no_answer_sets_a_cookie_nor_passes_on_what_a_model_server_says_beside_its_answer(home: House) -> None:
    async def with_headers(exchange: Exchange) -> None:
        more: dict[str, Any] = {"access_control_allow_origin": "*", "x_inside": "10.0.0.7", "x_request_id": "theirs"}
        await exchange.head(set_cookie="a=b", **more)
        await exchange.text("Voici une réponse tout à fait française.")
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    home.local.answers(with_headers)
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    await UserStore(home.engine).add("alice", await Passwords(CHEAPEST).hash(PASSWORD), tenant="acme")
    replies = [
        *[await send(home.url, "POST", CHAT, home.token(), json={**ASK, "stream": stream}) for stream in (True, False)],
        await send(home.url, "POST", "/auth/token", data=form),
        await send(home.url, "GET", "/admin/users", root(home)),
    ]
    assert [reply.status for reply in replies] == [200] * 4
    for reply in replies:
        assert not {"set-cookie", "access-control-allow-origin", "x-inside"} & {name.lower() for name in reply.headers}
        assert reply.headers["x-request-id"].startswith("req_")
    assert "cookie" not in home.local.asked[1].headers


@pytest.mark.parametrize("value", [b"a%0d%0aset-cookie: x=1", b"a\r\n set-cookie: x=1", b"a\nset-cookie: x=1", b"a\rb"])
async def test_a_request_id_never_becomes_a_header_of_the_answer(home: House, value: bytes) -> None:
    host, port = home.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: " + value + b"\r\nconnection: close\r\n\r\n")
    answer = (await asyncio.wait_for(reader.read(), 10)).lower()
    writer.close()
    assert answer.startswith(b"http/1.1 ")
    assert b"cookie" not in answer


INSIDE: Final = 'traceback|file "|.py|select |insert |sqlite|sqlalchemy|psl_|eyj|no such table'.split("|")


@asynccontextmanager
async def broken(home: House) -> AsyncIterator[str]:
    """The same gateway once more, its tables of users and keys gone, and with a route that fails."""
    app = create_app(Settings(**{**home.settings.model_dump(), "targets": home.settings.targets}))

    @app.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError("SELECT password FROM users WHERE token = 'eyJ'")

    async with serve(app, http="httptools", loop="asyncio") as url:
        async with home.engine.begin() as connection:
            for table in ("refresh_tokens", "sessions", "api_keys", "users", "clients", "audit"):
                await connection.exec_driver_sql(f"DROP TABLE {table}")
        yield url


async def test_no_error_tells_of_the_inside_or_repeats_a_credential(home: House) -> None:
    token, form = root(home), {"grant_type": "password", "username": "alice", "password": PASSWORD}
    _, key = await KeyStore(home.engine, sealer(home.settings)).add("k", Grant(scopes=SCOPES), tenant=HOUSE)
    user = {"username": "zoe", "password": PASSWORD}
    async with broken(home) as url:
        replies = [
            await send(url, "GET", "/breaks", token),
            await send(url, "GET", "/admin/users", token),
            await send(url, "POST", "/admin/users", token, json=user),
            await send(url, "GET", "/v1/models", key),
            await send(url, "POST", "/auth/token", data=form),
            await send(url, "POST", "/auth/revoke", data={"token": key}),
            await send(url, "GET", "/v1/models", token[:-4]),
            await send(url, "GET", "/v1/models/" + "x" * 100, token),
            await send(url, "POST", CHAT, token, data=b'{"model": "' + b"\xff"),
        ]
    assert [reply.status for reply in replies if reply.status < 400] == []
    assert {reply.status for reply in replies} >= {401, 404, 400}
    assert any(reply.status >= 500 for reply in replies)
    for reply in replies:
        told = (reply.text + repr(dict(reply.headers))).lower()
        assert [word for word in (*INSIDE, PASSWORD, key.lower(), token.lower()) if word in told] == [], reply
        assert {*SAFE, "x-request-id"} <= {name.lower() for name in reply.headers}


def kept_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_neither_texts_nor_credentials_lie_in_the_state_directory(home: House, tmp_path: Path) -> None:
    question, answer = "Où se trouve le dossier Zanzibar ?", "Voici une réponse tout à fait française."
    alice = await UserStore(home.engine).add(
        "alice", await Passwords(CHEAPEST).hash(PASSWORD), tenant="acme", scopes=SCOPES_OF_ROLE["member"]
    )
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    tokens = json.loads((await send(home.url, "POST", "/auth/token", data=form)).text)
    key = json.loads((await send(home.url, "POST", "/auth/keys", tokens["access_token"], json={"name": "k"})).text)
    client = json.loads((await send(home.url, "POST", "/admin/clients", root(home), json={"name": "c"})).text)
    (secret,) = (value for value in client.values() if str(value).startswith("pss_"))
    asked = {**ASK, "messages": [{"role": "user", "content": question}]}
    reply = await send(home.url, "POST", CHAT, tokens["access_token"], json=asked)
    assert answer in reply.text
    await home.ledger(reply.headers["x-request-id"])
    stored = kept_in(tmp_path)
    assert alice.id.encode() in stored  # it was read where things are kept
    secrets = (PASSWORD, tokens["access_token"], tokens["refresh_token"][4:], key["key"][10:], secret[4:])
    for text in (question, "Zanzibar", answer, *secrets):
        assert text.encode() not in stored, text


@pytest.mark.parametrize(
    ("method", "path", "body", "more"),
    [
        (
            "POST",
            "/admin/users",
            {"username": "zoe", "password": PASSWORD},
            "id kind generation disabled password_hash",
        ),
        ("POST", "/admin/keys", {"name": "k"}, "id key digest created_by revoked_at last_used_at"),
        ("POST", "/auth/keys", {"name": "k"}, "id key digest tenant owner created_by"),
        ("POST", "/admin/clients", {"name": "c"}, "id client_id secret secret_digest generation disabled"),
        ("POST", "/admin/tenants", {"name": "t"}, "id disabled created_at"),
        ("PATCH", "/admin/users/{user}", {"may_leave": True}, "id tenant username password_hash generation created_at"),
    ],
)
async def test_a_field_that_is_not_the_caller_s_to_set_is_refused(
    home: House, method: str, path: str, body: dict[str, Any], more: str
) -> None:
    user = await UserStore(home.engine).add("alice", "-", tenant="acme")
    for name in more.split():
        reply = await send(home.url, method, path.format(user=user.id), root(home), json={**body, name: "x"})
        assert (reply.status, name in reply.text) == (400, True), (name, reply)
    assert await UserStore(home.engine).list() == [user]
    assert len(json.loads((await send(home.url, "GET", "/admin/keys", root(home))).text)["data"]) == 0


async def test_there_are_no_pages_and_no_files(home: House) -> None:
    paths = ("/", "/docs", "/redoc", "/admin", "/debug", "/.env", "/.git/config", "/static/..%2f..%2fetc/passwd")
    replies = [await send(home.url, "GET", path, root(home)) for path in paths]
    assert [reply.status for reply in replies] == [404] * len(paths)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_model_server_sends_no_request_of_ours_elsewhere(home: House, status: int) -> None:
    home.local.answers(refuses(status, {}, location=f"{home.outside.url}/chat/completions"))
    reply = await send(home.url, "POST", CHAT, home.token(may_leave=False), json=ASK)
    assert reply.status == 502
    assert home.outside.asked == []
    assert home.outside.url not in reply.text


@pytest.mark.parametrize(("line", "believed"), [("", None), ('trusted_proxies = ["10.1.2.3"]', "10.1.2.3")])
def test_forwarded_addresses_count_from_proxies_that_are_named_and_from_nobody_else(
    tmp_path: Path, line: str, believed: str | None
) -> None:
    target = "[targets.a]\nkind = 'vllm'\nurls = ['http://127.0.0.1:1/v1']\nmodel = 'm'\n[models.m]\ntargets = ['a']\n"
    config = tmp_path / "passerelle.toml"
    config.write_text(f"[server]\n{line}\n[state]\ndirectory = '{tmp_path}'\n{target}", encoding="utf-8")
    options = uvicorn_config(None, load(config))
    assert options.proxy_headers is (believed is not None)
    if believed is not None:
        assert options.forwarded_allow_ips == believed
    assert options.server_header is False
