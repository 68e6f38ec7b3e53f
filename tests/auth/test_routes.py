"""The open routes, over a real server."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from auth.errors import BadConfiguration
from auth.signing import KeySet
from auth.throttle import network
from auth.tokens import Tokens
from tests.auth.forge import AUDIENCE, ISSUER
from tests.auth.server import FORM, GOOD, Server, running


@pytest.fixture
async def server(tmp_path: Path, keys: KeySet) -> AsyncIterator[Server]:
    async with running(tmp_path, keys, rate=None) as server:
        yield server


async def test_a_name_and_a_password_give_a_token_that_nobody_may_store(server: Server, keys: KeySet) -> None:
    status, body, headers = await server.ask()
    assert status == 200
    assert {**body, "access_token": "", "refresh_token": ""} == {
        "access_token": "",
        "refresh_token": "",
        "token_type": "bearer",
        "expires_in": 900,
        "scope": "chat models",
    }
    assert (headers["cache-control"], headers["pragma"]) == ("no-store", "no-cache")
    principal = Tokens(keys, ISSUER, AUDIENCE).verify(body["access_token"]).principal
    assert (principal.tenant, sorted(principal.scopes), principal.may_leave) == ("acme", ["chat", "models"], True)


async def test_a_narrower_scope_is_granted_and_written_into_the_token(server: Server, keys: KeySet) -> None:
    _, body, _ = await server.ask(scope="chat")
    assert body["scope"] == "chat"
    assert Tokens(keys, ISSUER, AUDIENCE).verify(body["access_token"]).principal.scopes == {"chat"}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"password": "faux"}, "invalid_grant"),
        ({"username": "nobody"}, "invalid_grant"),
        ({"username": "a\0b"}, "invalid_grant"),
        ({"password": "x" * 5000}, "invalid_grant"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "chat admin"}, "invalid_scope"),
        ({"scope": 'cha"t'}, "invalid_scope"),
        ({"scope": "chat  models"}, "invalid_scope"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": "PASSWORD"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
        ({"username": ""}, "invalid_request"),
        ({"password": ""}, "invalid_request"),
    ],
)
async def test_a_refusal_has_the_form_of_rfc_6749(server: Server, fields: dict[str, str], error: str) -> None:
    status, body, headers = await server.ask(**fields)
    assert (status, body["error"], set(body)) == (400, error, {"error", "error_description"})
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"grant_type", FORM),
        (b"\xff\xfe", FORM),
        (b"grant_type=password&username=%ff&password=x", FORM),
        (urlencode(GOOD) + "&username=bob", FORM),
        (urlencode(GOOD) + "&a=1" * 40, FORM),
        (urlencode(GOOD | {"filler": "x" * 17_000}), FORM),
        (urlencode(GOOD | {"filler": "x" * 900_000}), FORM),
        (urlencode(GOOD), "text/plain"),
        (urlencode(GOOD), ""),
        (b'{"grant_type": "password"}', "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
    ],
)
async def test_any_other_body_is_an_invalid_request(server: Server, body: bytes | str, content_type: str) -> None:
    status, answer, _ = await server.post(body, content_type)
    assert (status, answer["error"]) == (400, "invalid_request")


async def test_the_content_type_may_carry_a_charset(server: Server) -> None:
    assert (await server.post(urlencode(GOOD), "Application/X-WWW-Form-URLEncoded; charset=UTF-8"))[0] == 200


async def test_a_caller_who_leaves_in_the_middle_of_the_body_disturbs_nobody(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as caller:
        head = f"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 100\r\n\r\ngrant"
        caller.sendall(head.encode())
    assert (await server.ask())[0] == 200


async def test_the_public_keys_are_published(server: Server, keys: KeySet) -> None:
    async with server.http.get(f"{server.url}/.well-known/jwks.json") as answer:
        assert answer.status == 200
        assert await answer.json() == keys.jwks()


@pytest.mark.parametrize("storage", ["memory", "redis"])
async def test_an_address_that_asks_too_often_waits_whatever_its_headers_say(
    tmp_path: Path, keys: KeySet, storage: str, request: pytest.FixtureRequest
) -> None:
    uri = "memory://" if storage == "memory" else request.getfixturevalue("redis_url")
    async with running(tmp_path, keys, "3/hour", uri) as server:
        for n in range(3):
            assert (await server.post(urlencode(GOOD), **{"x-forwarded-for": f"10.0.0.{n}"}))[0] == 200
        status, body, headers = await server.post(urlencode(GOOD), **{"x-forwarded-for": "10.0.0.9"})
    assert (status, body["error"], set(body)) == (429, "temporarily_unavailable", {"error", "error_description"})
    assert 3590 <= int(headers["retry-after"]) <= 3600


async def test_bad_requests_count_too(tmp_path: Path, keys: KeySet) -> None:
    async with running(tmp_path, keys, "2/hour") as server:
        assert [(await server.post(b""))[0] for _ in range(3)] == [400, 400, 429]


async def test_the_limit_goes_on_in_this_process_when_its_storage_is_gone(tmp_path: Path, keys: KeySet) -> None:
    async with running(tmp_path, keys, "2/hour", "redis://127.0.0.1:1") as server:
        assert [(await server.ask())[0] for _ in range(3)] == [200, 200, 429]


async def test_a_stray_variable_does_not_switch_the_limit_off(
    tmp_path: Path, keys: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    async with running(tmp_path, keys, "1/hour") as server:
        assert [(await server.ask())[0] for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(("rate", "storage_uri"), [("often", "memory://"), ("", "memory://"), ("1/hour", "nowhere://")])
async def test_a_limit_that_cannot_be_read_stops_the_start(
    tmp_path: Path, keys: KeySet, rate: str, storage_uri: str
) -> None:
    with pytest.raises(BadConfiguration):
        async with running(tmp_path, keys, rate, storage_uri):
            pass


@pytest.mark.parametrize(
    ("host", "counts_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", "local"),
        (None, "local"),
    ],
)
def test_one_subscriber_is_one_address(host: str | None, counts_as: str) -> None:
    assert network(host) == counts_as
