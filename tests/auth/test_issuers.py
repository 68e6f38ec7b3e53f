"""Tokens of outside issuers, whose keys come from a real server; whatever does not hold is InvalidToken."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jws
from jose.exceptions import JWSError

from auth.errors import BadConfiguration, InvalidToken
from auth.issuers import REMEMBER_S, OutsideTokens
from auth.principal import CHAT, KEYS, MODELS, Principal
from tests.auth.forge import NOW, encode
from tests.auth.provider import EC, GOOD, HOME, MISSING, OTHER, RSA, STRANGER, Provider, Signer, good_claims, issuer


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider.running() as provider:
        yield provider


def two_issuers() -> OutsideTokens:
    """Without a server: the issuer of these keys, and another whose key has the id of one of them."""

    async def fetch(url: str) -> bytes:
        return json.dumps({"keys": [one.public for one in (GOOD if url == "home" else [STRANGER])]}).encode()

    other = issuer("other", name="other", issuer=OTHER)
    return OutsideTokens([issuer("home"), other], fetch=fetch, now=lambda: NOW, clock=lambda: 0.0)


@pytest.mark.parametrize("signer", GOOD, ids=lambda signer: signer.alg)
async def test_a_good_token_is_accepted_and_remembered(signer: Signer, provider: Provider) -> None:
    tokens, token = provider.tokens(), signer.token()
    expected = Principal("home:mia", "acme", frozenset({CHAT, MODELS}), "outside", True, 7)
    assert tokens.speaks_for(token)
    assert [await tokens.verify(token), await tokens.verify(token)] == [expected, expected]
    assert (tokens.remembered, provider.hits) == (1, 1)


@pytest.mark.parametrize(
    "token",
    [
        RSA.token({"typ": MISSING}),
        RSA.token({"typ": "application/AT+jwt"}),
        RSA.token({"x5c": ["MIIB"], "x5t": "abc"}),
        RSA.token(aud=["other", "passerelle"]),
        RSA.token(exp=NOW + 0.5, iat=NOW + 59.5, nbf=MISSING),
        RSA.token(scope=MISSING),
        RSA.token(sub="é" * 255, jti=5),
    ],
)
async def test_what_providers_do_differently_is_accepted(token: str) -> None:
    assert (await two_issuers().verify(token)).tenant == "acme"


def hs256_by_public_key() -> str:
    secret = encode(RSA.private.public_key().to_pem())
    return jws.sign(good_claims(), secret, headers={"kid": RSA.kid}, algorithm="HS256")


def _bad() -> Iterable[tuple[str, str]]:
    token, short = RSA.token(), EC.token()
    head, body, signature = token.split(".")
    yield from {
        "empty": "", "one part": "a", "two dots": "..", "two parts": f"{head}.{body}", "no signature": f"{head}.{body}.",
        "five parts": f"{token}.AAAA.AAAA", "padded": token + "==", "white space": " " + token, "new line": token + "\n",
        "not ASCII": "é" + token, "surrogate": "\ud800", "huge": token + "A" * 9000, "other bytes": f"{head}.{body}.AAAA",
        "spare bits": short[:-1] + chr(ord(short[-1]) + 1), "HS256 by the public key": hs256_by_public_key(),
        "alg none, unsigned": f"{encode({'alg': 'none', 'kid': 'RS256'})}.{body}.", "foreign key": STRANGER.token(),
        "other issuer's": RSA.token(iss=OTHER), "other's body": f"{head}.{encode(good_claims() | {'sub': 'x'})}.{signature}",
        "header list": RSA.sign([], good_claims()), "header no JSON": RSA.sign(b"{", good_claims()),
        "header deep": RSA.sign(b'{"kid":' + b"[" * 3000, good_claims()), "key of another type": EC.token({"kid": "RS256"}),
        "other alg than signed": RSA.token({"alg": "RS384"}), "curve of another": EC.token({"alg": "ES384", "kid": "ES384"}),
    }.items()  # fmt: skip
    shapes = [b"[]", b"null", b'"x"', b"{", b"\xff", b"{}"]
    for data in (*shapes, b"[" * 3000, b'{"iss":' * 900, b'{"exp":' + b"9" * 5000 + b"}"):
        yield f"payload {data[:12]!r}", RSA.sign({"alg": "RS256", "kid": "RS256"}, data)
    headers: dict[str, list[Any]] = {
        "alg": ["none", "HS256", "rs256", ["RS256"], 256, None, MISSING],
        "kid": [MISSING, "", None, "unknown", "../../dev/null", "x" * 256, ["RS256"], {}],
        "typ": ["id_token+jwt", None, ["JWT"], "application/"],
        "crit": [["exp"], []], "b64": [False], "zip": ["DEF"],
        "jku": ["https://evil.example/jwks"], "jwk": [STRANGER.public], "x5u": ["https://evil.example/c.pem"],
    }  # fmt: skip
    future = NOW + 3600
    claims: dict[str, list[Any]] = {
        "iss": [MISSING, "https://evil.example", HOME + "/", [HOME], None, {}],
        "aud": [MISSING, "other", ["other"], [], 1, None, ["passerelle", 1], {"passerelle": 1}, [["passerelle"]]],
        "exp": [MISSING, NOW, NOW - 1, True, str(future), float("nan"), float("inf"), None, [future], 10**400, 2**63],
        "iat": [MISSING, future, NOW + 61, True, "0", float("-inf"), None, -(10**400)],
        "nbf": [future, NOW + 61, True, "0", None, float("nan")],
        "sub": [MISSING, "", 5, ["mia"], None, "x" * 256, "\ud800", "a\0b"],
        "org": [MISSING, "evil", "", ["acme"], None, 5, {"acme": 1}],
        "scope": [5, {"ask": 1}, ["ask", 5], True],
    }
    for name, values in headers.items():
        yield from ((f"header {name} {str(value)[:30]}", RSA.token({name: value})) for value in values)
    for name, values in claims.items():
        yield from ((f"claim {name} {str(value)[:30]}", RSA.token(**{name: value})) for value in values)


BAD = list(_bad())


@pytest.mark.parametrize("token", [token for _, token in BAD], ids=[name for name, _ in BAD])
async def test_a_bad_token_is_refused_and_nothing_else_happens(token: str) -> None:
    tokens = two_issuers()
    tokens.speaks_for(token)
    with pytest.raises(InvalidToken):
        await tokens.verify(token)
    assert tokens.remembered == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TOKEN = EC.token()
RESPELT = st.builds(lambda at, new: TOKEN[:at] + new + TOKEN[at + 2 :], st.integers(0, len(TOKEN)), st.text(max_size=3))
FORGED = st.builds(lambda name, value: EC.token(**{name: value}), st.sampled_from([*good_claims()]), JSON)
HEADERS = st.sampled_from(["alg", "kid", "typ", "crit", "x"])
HEADED = st.builds(lambda name, value: EC.token({name: value}), HEADERS, JSON)


@given(st.text() | st.builds("{}.{}.{}".format, *[JSON.map(encode)] * 3) | RESPELT | FORGED | HEADED)
async def test_any_text_is_verified_or_refused_but_never_breaks(text: str) -> None:
    tokens = two_issuers()
    spoken_for = tokens.speaks_for(text)
    with contextlib.suppress(InvalidToken):
        assert (await tokens.verify(text)).subject.startswith("home:")
        assert spoken_for


async def test_tokens_are_forgotten_with_their_key_in_time_and_by_number(provider: Provider) -> None:
    tokens = provider.tokens(remember=2)
    for signer in GOOD:
        await tokens.verify(signer.token(exp=NOW + 9000))
    assert tokens.remembered == 2
    await tokens.verify(short := RSA.token(exp=NOW + 5))
    provider.clock = 5
    with pytest.raises(InvalidToken):
        await tokens.verify(short)
    provider.clock = 599
    await tokens.verify(kept := EC.token(exp=NOW + 9000))
    provider.publish(RSA.public)
    provider.clock = 601
    await tokens.verify(kept)  # from memory, which has the keys looked at again
    await provider.settled(2)
    with pytest.raises(InvalidToken):
        await tokens.verify(kept)


async def test_a_token_is_looked_at_again_after_a_while(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, token = provider.tokens(), RSA.token(exp=NOW + 9000)
    await tokens.verify(token)
    monkeypatch.setattr("auth.issuers.jws.verify", Mock(side_effect=JWSError))
    provider.clock = REMEMBER_S - 1
    await tokens.verify(token)
    provider.clock = REMEMBER_S
    with pytest.raises(InvalidToken):
        await tokens.verify(token)


@pytest.mark.parametrize(
    ("claim", "said", "expected"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["manage", "unknown"]}}, {KEYS, MODELS}),
        ("realm_access.roles", {"realm_access": ["manage"]}, {MODELS}),
        ("https://id.example/roles", {"https://id.example/roles": "ask manage"}, {CHAT, KEYS, MODELS}),
    ],
)
async def test_scopes_are_mapped(claim: str, said: dict[str, Any], expected: set[str], provider: Provider) -> None:
    tokens = provider.tokens(issuer(provider.url, scope_claim=claim, tenant="house", tenant_claim=None))
    found = await tokens.verify(RSA.token(**said))
    assert (set(found.scopes), found.tenant) == (expected, "house")


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a:b"},
        {"algorithms": {"HS256"}},
        {"algorithms": set()},
        {"tenant": "x"},
        {"tenant_claim": None},
    ],
)
def test_an_issuer_that_cannot_be_told_apart_or_checked_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadConfiguration):
        issuer("u", **change)
    for double in ({"name": "other"}, {"issuer": OTHER}):
        with pytest.raises(BadConfiguration):
            OutsideTokens([issuer("u"), issuer("u", **double)])
