"""Users are added over HTTP by who has the scope `admin`, and by nobody else."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from auth.principal import HOUSE, scopes_of
from tests.house import MODEL, House, house

NEW = {"username": "Zoé", "password": "une phrase de passe"}


async def post(
    home: House, body: Any, token: str | None = None, path: str = "/admin/users"
) -> tuple[int, dict[str, Any]]:
    """`body` as JSON, or as it is when it is bytes."""
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with (
        aiohttp.ClientSession() as session,
        session.post(home.url + path, headers=headers, **sent) as answer,
    ):
        return answer.status, await answer.json()


async def login(home: House, username: str, password: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": "password", "username": username, "password": password}
    async with aiohttp.ClientSession() as session, session.post(f"{home.url}/auth/token", data=form) as answer:
        return answer.status, await answer.json()


def admin(home: House) -> str:
    return home.token("root", scopes=scopes_of("admin", HOUSE), tenant=HOUSE)


async def test_a_user_that_was_added_logs_in_and_asks(home: House) -> None:
    status, user = await post(home, NEW, admin(home))
    assert status == 201
    assert user["id"]
    assert {name: user[name] for name in user if name not in ("id", "created_at")} == {
        "username": "zoé",
        "tenant": "default",
        "role": "member",
        "scopes": ["chat", "keys", "models", "usage"],
        "may_leave": False,
        "requests_per_minute": None,
        "disabled": False,
    }
    status, answer = await login(home, "ZOÉ", NEW["password"])
    assert status == 200
    client = home.client_with(answer["access_token"])
    completion = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Bonjour"}])
    assert completion.choices[0].message.content


async def test_what_the_administrator_says_of_the_user_holds(home: House) -> None:
    more = {"tenant": "acme", "role": "member", "scopes": ["chat"], "may_leave": True, "requests_per_minute": 2}
    status, user = await post(home, {**NEW, **more}, admin(home))
    assert status == 201
    assert {name: user[name] for name in more} == more
    _, answer = await login(home, "zoé", NEW["password"])
    assert answer["scope"] == "chat"
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}]}
    got = [(await post(home, ask, answer["access_token"], "/v1/chat/completions"))[0] for _ in range(3)]
    assert got == [200, 200, 429]


async def test_the_answer_holds_neither_password_nor_hash(home: House) -> None:
    _, user = await post(home, NEW, admin(home))
    assert not [name for name in user if "password" in name or "hash" in name]
    assert "argon2" not in str(user)
    assert NEW["password"] not in str(user)


async def test_without_a_token_it_is_401_and_without_the_scope_403(home: House) -> None:
    status, answer = await post(home, NEW)
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    status, answer = await post(home, NEW, home.token())
    assert (status, answer["error"]["code"]) == (403, "missing_scope")
    assert (await login(home, "zoé", NEW["password"]))[0] == 400


async def test_a_name_that_is_taken_in_another_spelling_is_409(home: House) -> None:
    await post(home, NEW, admin(home))
    status, answer = await post(home, {**NEW, "username": "ZOÉ"}, admin(home))
    assert (status, answer["error"]["code"]) == (409, "name_taken")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"username": "\\ud800", "password": "une phrase de passe"}', None),
        ({"username": "zoé"}, None),
        ({**NEW, "username": ""}, None),
        ({**NEW, "username": "zoé la rousse"}, None),
        ({**NEW, "password": "court"}, None),
        ({**NEW, "password": 12}, "password"),
        ({**NEW, "tenant": "a\x00b"}, "tenant"),
        ({**NEW, "role": "owner"}, "role"),
        ({**NEW, "scopes": ["chat", "everything"]}, "scopes[1]"),
        ({**NEW, "may_leave": "yes"}, "may_leave"),
        ({**NEW, "requests_per_minute": 0}, "requests_per_minute"),
        ({**NEW, "scope": ["chat"]}, None),
    ],
    ids=lambda value: None if isinstance(value, str | None) else str(value)[:60],
)
async def test_what_is_no_user_is_an_openai_400(home: House, body: Any, param: str | None) -> None:
    status, answer = await post(home, body, admin(home))
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["param"] == param


async def test_a_body_that_no_user_fills_is_413(home: House) -> None:
    status, answer = await post(home, {**NEW, "password": "x" * 20_000}, admin(home))
    assert (status, answer["error"]["code"]) == (413, "request_too_large")


async def test_passwords_of_a_pattern_are_refused_unless_only_length_and_lists_count(tmp_path: Path) -> None:
    pattern, leaked = {**NEW, "password": "x" * 15}, {**NEW, "password": "1q2w3e4r5t6y"}
    async with house(tmp_path) as home:
        assert [(await post(home, body, admin(home)))[0] for body in (pattern, leaked)] == [400, 400]
    async with house(tmp_path, auth={"minimum_password_guesses": 0}) as home:
        assert [(await post(home, body, admin(home)))[0] for body in (pattern, leaked)] == [201, 400]


async def test_the_least_length_of_a_password_is_configured(tmp_path: Path) -> None:
    async with house(tmp_path, auth={"minimum_password_length": 15}) as home:
        status, answer = await post(home, {**NEW, "password": "un deux trois!"}, admin(home))
        assert (status, answer["error"]["code"]) == (400, "weak_password")
        assert "15" in answer["error"]["message"]
        assert (await post(home, {**NEW, "password": "un deux trois 4"}, admin(home)))[0] == 201
