"""The keys of outside issuers: when they are fetched, from a real server, and which of them are used."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jose import jws

from auth.errors import InvalidToken, IssuerUnavailable
from auth.jwks import MAX_BYTES, MAX_KEYS, PublicKeys
from tests.auth.forge import NOW, encode
from tests.auth.provider import EC, MISSING, RSA, Provider, Signer, good_claims, issuer, present

CLOSED = "http://127.0.0.1:9/jwks"
WEAK, NEW = Signer.make("weak", "RS256", 1024), Signer.make("new", "ES256")
OCT = {"kty": "oct", "kid": "shared", "k": encode(b"s" * 32)}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider.running() as provider:
        yield provider


async def test_a_new_key_is_fetched_at_once_and_a_flood_of_unknown_ones_is_not(provider: Provider) -> None:
    tokens = provider.tokens()
    await tokens.verify(RSA.token())
    provider.publish(RSA.public, NEW.public)
    provider.clock = 10
    await tokens.verify(NEW.token())
    assert provider.hits == 2
    flood = [tokens.verify(NEW.token({"kid": f"{number}"})) for number in range(200)]
    assert {type(one) for one in await asyncio.gather(*flood, return_exceptions=True)} == {InvalidToken}
    assert provider.hits == 2
    provider.clock, provider.status = 20, 500  # failures count too
    for number in range(200):
        with pytest.raises(InvalidToken):
            await tokens.verify(NEW.token({"kid": f"{number}"}))
    assert provider.hits == 3


async def test_known_keys_outlive_their_issuer_and_nobody_waits_for_it(provider: Provider) -> None:
    tokens = provider.tokens()
    await tokens.verify(RSA.token())
    provider.status = 500
    for provider.clock, hits in ((601, 2), (605, 2), (611.5, 3)):
        provider.open.clear()
        assert await tokens.verify(RSA.token(jti=str(provider.clock), exp=NOW + 9000))
        await provider.asked(hits)
        provider.open.set()
        await provider.settled(hits)
        assert provider.hits == hits


async def test_an_issuer_that_never_answered_is_unavailable_until_it_does(provider: Provider) -> None:
    tokens, provider.status = provider.tokens(), 503
    for _ in range(3):
        with pytest.raises(IssuerUnavailable) as unavailable:
            await tokens.verify(RSA.token())
    assert (unavailable.value.status, unavailable.value.headers["Retry-After"], provider.hits) == (503, "5", 1)
    with pytest.raises(IssuerUnavailable):
        await provider.tokens(issuer(CLOSED)).verify(RSA.token())
    provider.clock, provider.status = 10, 200
    assert await tokens.verify(RSA.token())


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (302, {"Location": "/moved"}, None),
        (201, {}, None),
        (200, {}, b'{"keys": [' + b" " * MAX_BYTES + b"]}"),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\0"),
        *((200, {}, body) for body in (b"<html>", b"\xff", b"[]", b"null", b'{"keys": {}}', b"[" * 100_000)),
        (200, {}, b'{"keys": [' + b"9" * 5000 + b"]}"),
    ],
)
async def test_what_is_no_key_set_is_no_answer(
    status: int, headers: dict[str, str], body: bytes | None, provider: Provider
) -> None:
    provider.status, provider.headers, provider.body = status, headers, provider.body if body is None else body
    with pytest.raises(IssuerUnavailable):
        await provider.tokens().verify(RSA.token())
    assert provider.hits == 1


async def test_a_key_that_will_not_do_is_left_out_and_the_others_count(provider: Provider) -> None:
    bare = {name: RSA.public[name] for name in ("kty", "n", "e")}
    changes: list[dict[str, Any]] = [
        *(
            {"use": "enc"},
            {"key_ops": ["sign"]},
            {"key_ops": "verify"},
            {"alg": "RS512"},
            {"kty": "oct"},
            {"kty": ["RSA"]},
        ),
        *(
            {"n": 5},
            {"n": "!"},
            {"n": "AQAB"},
            {"e": MISSING},
            {"e": "Ag"},
            {"n": "_" * 3000},
            {"d": "AQAB"},
            {"crv": {}},
        ),
    ]
    bad: list[object] = [present(bare | {"kid": f"{at}"} | change) for at, change in enumerate(changes)]
    points = [EC.public | {"kid": "y", "y": EC.public["x"]}, EC.public | {"kid": "x", "x": "_" * 500}]
    odd: list[object] = [5, None, [], {}, bare, bare | {"kid": ""}, bare | {"kid": 5}]
    provider.publish(*odd, *bad, *points, OCT, WEAK.public, bare | {"kid": "RS256", "key_ops": ["verify"]})
    tokens = provider.tokens()
    shared = jws.sign(good_claims(), b"s" * 32, headers={"kid": "shared"}, algorithm="HS256")
    refused = [shared, WEAK.token(), RSA.token({"kid": ""}), *(EC.token({"kid": one["kid"]}) for one in points)]
    for token in [*refused, *(RSA.token({"kid": f"{at}"}) for at in range(len(bad)))]:
        with pytest.raises(InvalidToken):
            await tokens.verify(token)
    assert await tokens.verify(RSA.token())
    keys = PublicKeys(provider.url, frozenset({"HS256", "RS512"}))
    with pytest.raises(InvalidToken):
        await keys.key("shared", "HS256")
    assert await keys.key("RS256", "RS512")  # a key that names no algorithm serves all of its type


async def test_a_set_is_read_up_to_its_bound(provider: Provider) -> None:
    provider.publish(*[RSA.public | {"kid": f"{number}"} for number in range(MAX_KEYS + 1)])
    tokens = provider.tokens()
    assert await tokens.verify(RSA.token({"kid": f"{MAX_KEYS - 1}"}))
    with pytest.raises(InvalidToken):
        await tokens.verify(RSA.token({"kid": f"{MAX_KEYS}"}))


async def test_callers_share_the_first_fetch_and_one_may_go_away(provider: Provider) -> None:
    tokens = provider.tokens()
    provider.open.clear()
    callers = [asyncio.create_task(tokens.verify(RSA.token(jti=str(number)))) for number in range(20)]
    await provider.asked(1)
    callers[0].cancel()
    await asyncio.sleep(0)
    provider.open.set()
    assert len(await asyncio.gather(*callers[1:])) == 19
    assert (callers[0].cancelled(), provider.hits) == (True, 1)


async def test_closing_ends_the_fetch_under_way(provider: Provider) -> None:
    tokens = provider.tokens()
    provider.open.clear()
    caller = asyncio.create_task(tokens.verify(RSA.token()))
    await provider.asked(1)
    await tokens.close()
    with pytest.raises(IssuerUnavailable):
        await caller
    await provider.tokens().close()  # with nothing to end


async def test_a_server_that_does_not_answer_is_given_up(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auth.jwks.TIMEOUT_S", 0.1)
    provider.open.clear()
    with pytest.raises(IssuerUnavailable):
        await provider.tokens().verify(RSA.token())


async def test_a_proxy_of_the_environment_is_not_used(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await provider.tokens().verify(RSA.token())
