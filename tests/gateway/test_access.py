"""Who may come in, as the official SDK and a bare client see it."""

import time
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from auth.passwords import CHEAPEST, Passwords
from auth.principal import SCOPES_OF_ROLE
from auth.store import UserStore
from gateway.access import PUBLIC, Access
from gateway.app import create_app
from gateway.settings import Settings
from tests.house import MODEL, House

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}]}


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
