"""Who may come in, as the official SDK and a bare client see it."""

import itertools
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from auth.clients import ClientStore
from auth.keys import KeyStore
from auth.passwords import CHEAPEST, Passwords
from auth.principal import SCOPES, SCOPES_OF_ROLE, TENANTS
from auth.rights import Grant
from auth.store import UserStore
from gateway.access import PUBLIC, Access
from gateway.app import create_app
from gateway.identities import sealer
from gateway.settings import Settings
from tests.house import MODEL, House, house

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}]}
OTHER: Final = "globex"  # a tenant that callers of "acme" do not reach

# The scopes that every route needs; of those joined by a bar one is enough. A new route needs a line here.
NEEDED: Final = {
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/completions"): "chat",
    ("POST", "/v1/embeddings"): "chat",
    ("POST", "/v1/moderations"): "chat",
    ("GET", "/v1/models"): "models",
    ("GET", "/v1/models/{name:path}"): "models",
    ("GET", "/auth/keys"): "keys",
    ("POST", "/auth/keys"): "keys",
    ("DELETE", "/auth/keys/{key_id}"): "keys|operate",
    ("GET", "/admin/tenants"): "operate",
    ("POST", "/admin/tenants"): "admin tenants",
    ("PATCH", "/admin/tenants/{name:path}"): "admin tenants",
    ("GET", "/admin/users"): "operate",
    ("POST", "/admin/users"): "admin",
    ("GET", "/admin/users/{user_id}"): "operate",
    ("PATCH", "/admin/users/{user_id}"): "operate",  # and `admin` for all but to disable one
    ("GET", "/admin/keys"): "operate",
    ("POST", "/admin/keys"): "admin",
    ("DELETE", "/admin/keys/{key_id}"): "keys|operate",
    ("GET", "/admin/clients"): "operate",
    ("POST", "/admin/clients"): "admin",
    ("GET", "/admin/clients/{client_id}"): "operate",
    ("PATCH", "/admin/clients/{client_id}"): "operate",  # and `admin` for all but to disable one
    ("POST", "/admin/clients/{client_id}/secret"): "admin operate",
    ("GET", "/admin/audit"): "operate",
    ("GET", "/admin/usage"): "operate",
    ("GET", "/admin/status"): "operate",
    ("GET", "/v1/usage"): "usage",
}
NEW: Final[dict[str, dict[str, Any]]] = {
    "/admin/tenants": {"name": "initech"},
    "/admin/users": {"username": "zoé", "password": "une phrase de passe"},
    "/admin/keys": {"name": "batch"},
    "/admin/clients": {"name": "batch"},
    "/auth/keys": {"name": "batch"},
}


async def post(home: House, headers: dict[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{home.url}/v1/chat/completions", json=ASK, headers=headers) as answer,
    ):
        return answer.status, await answer.json(), dict(answer.headers)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer  ", "Basic YTpi", "Bearer a.b.c", "Bearer sk-wrong-0123456789"]
)
async def test_without_a_good_token_the_answer_is_an_openai_401(home: House, header: str | None) -> None:
    status, body, headers = await post(home, {} if header is None else {"authorization": header})
    assert status == 401
    assert headers["WWW-Authenticate"].startswith('Bearer realm="passerelle"')
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "invalid_api_key"
    assert "0123456789" not in str(body)
    assert home.local.asked == []


async def test_the_sdk_raises_authentication_error_for_no_wrong_and_expired_tokens(home: House) -> None:
    expired = home.token(lifetime=60, now=lambda: time.time() - 61)
    for key in ("none", "sk-wrong", expired, home.token()[:-2]):
        with pytest.raises(openai.AuthenticationError) as refused:
            await home.client_with(key).chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "x"}]
            )
        assert refused.value.status_code == 401
        assert refused.value.code == "invalid_api_key"


async def test_the_scheme_may_be_written_in_any_case(home: House) -> None:
    status, _, _ = await post(home, {"authorization": f"bEaReR {home.token()}"})
    assert status == 200


async def test_a_token_without_the_scope_is_403(home: House) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await home.client(scopes={"models"}).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x"}]
        )
    assert refused.value.code == "missing_scope"
    with pytest.raises(openai.PermissionDeniedError):
        await home.client(scopes={"chat"}).models.list()


async def test_the_caller_s_token_never_reaches_a_model_server(home: House) -> None:
    token = home.token()
    await home.client_with(token).chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])
    assert token not in str(home.local.asked[0].headers)
    assert home.local.asked[0].headers["authorization"] == "Bearer key-of-the-local-server"


async def test_a_key_asks_for_its_models_alone_and_others_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    models = {name: {"targets": ["local"]} for name in (MODEL, "another")}
    async with house(tmp_path, models=models) as home:
        rights = {"name": "k", "scopes": ["chat", "models"], "models": ["another"]}
        _, key = await request(home, "POST", "/admin/keys", home.token(scopes=SCOPES), json=rights)
        client = home.client_with(key["key"])
        assert [model.id async for model in client.models.list()] == ["another"]
        await client.chat.completions.create(model="another", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(MODEL)


async def test_a_user_logs_in_and_asks(home: House) -> None:
    hashed = await Passwords(CHEAPEST).hash("une phrase de passe")
    await UserStore(home.engine).add("alice", hashed, tenant="acme", scopes=SCOPES_OF_ROLE["member"])
    form = {"grant_type": "password", "username": "alice", "password": "une phrase de passe"}
    async with aiohttp.ClientSession() as session, session.post(f"{home.url}/auth/token", data=form) as answer:
        token = (await answer.json())["access_token"]
    client = home.client_with(token)
    completion = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Bonjour"}])
    assert completion.choices[0].message.content


def _app(folder: Path) -> FastAPI:
    target = {"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "m"}
    return create_app(
        Settings.model_validate(
            {"state": {"directory": folder}, "targets": {"local": target}, "models": {"m": {"targets": ["local"]}}}
        )
    )


def test_every_route_but_the_public_list_asks_for_a_principal(tmp_path: Path) -> None:
    app = _app(tmp_path)
    assert open_routes(app) == PUBLIC


def test_a_route_that_forgets_its_principal_is_found(tmp_path: Path) -> None:
    app = _app(tmp_path)

    @app.get("/v1/forgotten")
    async def forgotten() -> None: ...

    assert open_routes(app) - PUBLIC == {"/v1/forgotten"}


def open_routes(app: FastAPI) -> set[str]:
    """The paths that no Access guards."""
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    return {getattr(route, "path", "") for route in routes if not _guarded(route)}


def _guarded(route: BaseRoute) -> bool:
    return isinstance(route, APIRoute) and any(isinstance(known.call, Access) for known in route.dependant.dependencies)


async def request(home: House, method: str, path: str, token: str | None = None, **sent: Any) -> tuple[int, Any]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    body = {} if method in ("GET", "DELETE") else {"json": _body(method, path)}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, home.url + _filled(path), headers=headers, **body | sent) as answer,
    ):
        return answer.status, await answer.json()


def _body(method: str, path: str) -> dict[str, Any]:
    return {"disabled": True} if method == "PATCH" else NEW.get(path, {})


def _filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", lambda _: str(uuid.uuid4()), path)


def needs(row: str) -> list[frozenset[str]]:
    """Of each set one scope is needed."""
    return [frozenset(either.split("|")) for either in row.split()]


def guarded_routes(app: FastAPI) -> set[tuple[str, str]]:
    """The method and path of all that is not open to anyone."""
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    known = [(getattr(route, "methods", None) or {"?"}, getattr(route, "path", "")) for route in routes]
    return {(method, path) for methods, path in known if path not in PUBLIC for method in methods}


def test_the_table_of_scopes_covers_every_route_that_is_not_public(tmp_path: Path) -> None:
    assert guarded_routes(_app(tmp_path)) == set(NEEDED)


def test_a_route_without_a_line_in_the_table_of_scopes_is_found(tmp_path: Path) -> None:
    app = _app(tmp_path)

    @app.put("/admin/users/{user_id}")
    async def unheard_of(user_id: str) -> None: ...

    assert guarded_routes(app) - set(NEEDED) == {("PUT", "/admin/users/{user_id}")}


def lacking() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Every route with every set of scopes that has all but what it needs."""
    for (method, path), row in NEEDED.items():
        for either in needs(row):
            yield method, path, SCOPES - either


async def test_no_route_of_the_table_answers_without_a_token(home: House) -> None:
    answers = {route: await request(home, *route) for route in NEEDED}
    got = {route: (status, body["error"]["code"]) for route, (status, body) in answers.items()}
    assert got == dict.fromkeys(NEEDED, (401, "invalid_api_key"))


async def test_every_route_is_403_for_who_has_all_scopes_but_the_one_it_needs(home: House) -> None:
    got = {
        (method, path, scopes): await request(home, method, path, home.token(scopes=scopes))
        for method, path, scopes in lacking()
    }
    wrong = {asked: answer for asked, answer in got.items() if answer[0] != 403}
    assert wrong == {}
    assert {body["error"]["code"] for _, body in got.values()} == {"missing_scope"}
    for (_, _, scopes), (_, body) in got.items():
        assert {named for named in SCOPES if repr(named) in body["error"]["message"]} <= SCOPES - scopes


async def test_every_route_lets_in_who_has_no_more_than_the_scopes_it_needs(home: House) -> None:
    alice = await UserStore(home.engine).add("alice", "-", tenant="acme")
    for (method, path), row in NEEDED.items():
        for scopes in itertools.product(*needs(row)):
            # Of what is made, the scopes that the caller has may be given; without any named they would be more.
            body = {} if method != "POST" or path not in NEW else {"json": NEW[path]}
            if body and path != "/admin/tenants":
                body["json"] = {**NEW[path], "scopes": []}
            status, answer = await request(home, method, path, home.token(alice.id, scopes=scopes), **body)
            assert status not in (401, 403), (method, path, scopes, answer)
            assert status < 500, (method, path, scopes, answer)


async def test_a_list_of_another_tenant_is_403_and_a_thing_made_in_it_too(home: House) -> None:
    token = home.token(scopes=SCOPES - {TENANTS})
    for path in ("/admin/users", "/admin/keys", "/admin/clients", "/admin/audit", "/admin/status"):
        status, body = await request(home, "GET", path, token, params={"tenant": OTHER})
        assert (path, status, body["error"]["code"]) == (path, 403, "missing_scope")
    for path in ("/admin/users", "/admin/keys", "/admin/clients"):
        status, body = await request(home, "POST", path, token, json={**NEW[path], "tenant": OTHER})
        assert (path, status, body["error"]["code"]) == (path, 403, "missing_scope")


async def test_every_route_to_one_thing_of_another_tenant_is_404(home: House) -> None:
    sealed, rights = sealer(home.settings), Grant(scopes=frozenset())
    user = await UserStore(home.engine).add("bob", "-", tenant=OTHER)
    key, _ = await KeyStore(home.engine, sealed).add("k", rights, tenant=OTHER, owner=user.id)
    client, _ = await ClientStore(home.engine, sealed).add("c", rights, tenant=OTHER)
    there = {"{user_id}": user.id, "{key_id}": key.id, "{client_id}": client.id}
    token, walked = home.token(scopes=SCOPES - {TENANTS}), 0
    for method, path in NEEDED:
        for name, existing in there.items():
            if name in path:
                got = await request(home, method, path.replace(name, existing), token)
                assert got[0] == 404, (method, path, got)
                assert got == await request(home, method, path, token)
                walked += 1
    assert walked == 7
