"""The requests that models answer pass by the framework; nobody outside can tell."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.chat import Chat
from tests.house import House, house

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
ASK = {"model": "assistant", "messages": [{"role": "user", "content": "Bonjour, comment suivre mon avis ?"}]}


async def ask(home: House, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    headers = {"authorization": f"Bearer {home.token()}", **more.pop("headers", {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, home.url + path, headers=headers, **more) as answer,
    ):
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.json()


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_the_framework_s(home: House, path: str) -> None:
    status, headers, body = await ask(home, "GET", path)
    assert (status, headers["allow"], body["error"]["code"]) == (405, "POST", "method_not_allowed")


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_has_an_id_and_safe_headers_errors_too(home: House, path: str) -> None:
    for content in (b"{", b"[]"):
        status, headers, body = await ask(home, "POST", path, data=content, headers={"x-request-id": "mine"})
        assert (status, headers["x-request-id"]) == (400, "mine")
        assert headers["x-content-type-options"] == "nosniff"
        assert set(body["error"]) == {"message", "type", "param", "code"}


async def test_a_fault_of_ours_is_a_500_with_the_request_s_id(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Chat, "answer", broken)
    status, headers, body = await ask(home, "POST", PATHS[0], json=ASK, headers={"x-request-id": "mine"})
    assert (status, headers["x-request-id"]) == (500, "mine")
    assert "ZeroDivision" not in str(body)


async def test_pages_of_other_origins_may_ask_if_they_are_configured(tmp_path: Path) -> None:
    page = "https://avis.example"
    async with house(tmp_path, server={"cors_origins": [page]}) as home:
        _, headers, _ = await ask(home, "POST", PATHS[0], json=ASK, headers={"origin": page})
        assert headers["access-control-allow-origin"] == page
        _, headers, _ = await ask(home, "POST", PATHS[0], json=ASK, headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in headers


async def test_they_are_counted_under_the_route_s_path_and_documented(home: House) -> None:
    await ask(home, "POST", PATHS[0], json=ASK)
    async with aiohttp.ClientSession() as session, session.get(f"{home.url}/metrics") as answer:
        assert f'route="{PATHS[0]}"' in await answer.text()
    async with aiohttp.ClientSession() as session, session.get(f"{home.url}/openapi.json") as answer:
        assert set(PATHS) <= set((await answer.json())["paths"])
