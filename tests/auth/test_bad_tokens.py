"""Whatever is not a valid token of ours is InvalidToken: the same sentence, and never another exception."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jwe, jws

from auth.errors import InvalidToken
from auth.signing import KeySet, SigningKey, keys_from_text, new_pem
from auth.tokens import MAX_TOKEN_BYTES, Tokens
from tests.auth.forge import AUDIENCE, ISSUER, NOW, encode, forge, good_claims, good_header

STRANGER = keys_from_text(new_pem()).newest
MISSING = object()


def claim(name: str, value: object) -> Callable[[SigningKey], str]:
    """A token whose signature and header are right, with one claim changed or left out."""

    def make(key: SigningKey) -> str:
        claims = {k: v for k, v in (good_claims() | {name: value}).items() if v is not MISSING}
        return forge(key, good_header(key), claims)

    return make


def header(name: str, value: object) -> Callable[[SigningKey], str]:
    """A token that is right but for one header member."""

    def make(key: SigningKey) -> str:
        return forge(
            key, {k: v for k, v in (good_header(key) | {name: value}).items() if v is not MISSING}, good_claims()
        )

    return make


def spelt(change: Callable[[str], str]) -> Callable[[SigningKey], str]:
    """A good token, respelt."""
    return lambda key: change(forge(key, good_header(key), good_claims()))


def payload(data: bytes) -> Callable[[SigningKey], str]:
    return lambda key: forge(key, good_header(key), data)


def hs256_by_public_key(key: SigningKey) -> str:
    secret = encode(json.dumps(key.public_jwk).encode())
    return jws.sign(good_claims(), secret, headers={"kid": key.kid}, algorithm="HS256")


def jwe_bomb(key: SigningKey) -> str:
    return jwe.encrypt(b" " * 100_000, "k" * 32, algorithm="dir", encryption="A256GCM", zip="DEF").decode()


def nested(depth: int) -> bytes:
    return b'{"kid":' + b"[" * depth + b"]" * depth + b"}"


TOKENS: dict[str, Callable[[SigningKey], str]] = {
    "empty": lambda key: "",
    "a word": lambda key: "secret",
    "two dots": lambda key: "..",
    "three letters": lambda key: "a.b.c",
    "not ASCII": spelt(lambda t: t[:-1] + "é"),
    "NUL": spelt(lambda t: t + "\0"),
    "newline at the end": spelt(lambda t: t + "\n"),
    "white space in front": spelt(lambda t: " " + t),
    "half a surrogate pair": lambda key: "\ud800",
    "full-width letters": spelt(lambda t: "\uff45" + t[1:]),
    "truncated": spelt(lambda t: t[:-1]),
    "padded": spelt(lambda t: t + "=="),
    "signature missing": spelt(lambda t: t.rsplit(".", 1)[0]),
    "signature empty": spelt(lambda t: t.rsplit(".", 1)[0] + "."),
    "signature of zeros": spelt(lambda t: t[:-86] + "A" * 86),
    "signature with rubbish that base64 skips": spelt(lambda t: t[:-3] + "!" + t[-3:]),
    "signature's spare bits set": spelt(lambda t: t[:-1] + chr(ord(t[-1]) + 1)),
    "signature in DER form": lambda key: forge(key, good_header(key), good_claims())[:-86] + encode(b"\x30\x44" * 35),
    "four parts": spelt(lambda t: t + ".AAAA"),
    "five parts": spelt(lambda t: t + ".AAAA.AAAA"),
    "JWE that unpacks to 100 kB": jwe_bomb,
    "huge": spelt(lambda t: t + "A" * MAX_TOKEN_BYTES),
    "huge but signed": claim("extra", "x" * MAX_TOKEN_BYTES),
    "stranger's signature under our kid": lambda key: forge(STRANGER, good_header(key), good_claims()),
    "stranger's key": lambda key: forge(STRANGER, good_header(STRANGER), good_claims()),
    "stranger's key in jwk": lambda key: forge(
        STRANGER, good_header(key) | {"jwk": STRANGER.public_jwk}, good_claims()
    ),
    "alg none, no signature": lambda key: f"{encode({'alg': 'none', 'typ': 'JWT'})}.{encode(good_claims())}.",
    "alg none": header("alg", "none"),
    "alg missing": header("alg", MISSING),
    "alg in lower case": header("alg", "es256"),
    "alg ES384": header("alg", "ES384"),
    "alg list": header("alg", ["ES256"]),
    "alg number": header("alg", 256),
    "HS256 with our public key as secret": hs256_by_public_key,
    "kid missing": header("kid", MISSING),
    "kid empty": header("kid", ""),
    "kid path": header("kid", "../../../../dev/null"),
    "kid list": header("kid", ["a"]),
    "kid object": header("kid", {}),
    "kid null": header("kid", None),
    "typ of an identity token": header("typ", "id_token+jwt"),
    "typ missing": header("typ", MISSING),
    "crit": header("crit", ["exp"]),
    "jku": header("jku", "https://evil.test/jwks.json"),
    "x5u": header("x5u", "https://evil.test/cert.pem"),
    "zip": header("zip", "DEF"),
    "b64 false": header("b64", False),
    "header list": lambda key: forge(key, [], good_claims()),
    "header number": lambda key: forge(key, 1, good_claims()),
    "header not JSON": lambda key: forge(key, b"{", good_claims()),
    "header not UTF-8": lambda key: forge(key, b"\xff\xfe", good_claims()),
    "header nested 2,500 deep": lambda key: forge(key, nested(2500), good_claims()),
    "header of a number with 5,000 digits": lambda key: forge(key, b'{"kid":' + b"9" * 5000 + b"}", good_claims()),
    "payload list": payload(b"[]"),
    "payload null": payload(b"null"),
    "payload string": payload(b'"chat"'),
    "payload not JSON": payload(b"{"),
    "payload not UTF-8": payload(b'{"iss":"\xff"}'),
    "payload nested 2,500 deep": payload(nested(2500)),
    "payload with a number of 5,000 digits": payload(b'{"exp":' + b"9" * 5000 + b"}"),
    "payload empty object": payload(b"{}"),
    "aud missing": claim("aud", MISSING),
    "aud another": claim("aud", "other"),
    "aud list with ours": claim("aud", [AUDIENCE]),
    "aud list with ours and another": claim("aud", [AUDIENCE, "other"]),
    "aud null": claim("aud", None),
    "aud number": claim("aud", 1),
    "iss missing": claim("iss", MISSING),
    "iss another": claim("iss", "https://evil.test"),
    "iss with a slash more": claim("iss", ISSUER + "/"),
    "iss list": claim("iss", [ISSUER]),
    "exp missing": claim("exp", MISSING),
    "exp now": claim("exp", int(NOW)),
    "exp a second ago": claim("exp", int(NOW) - 1),
    "exp negative": claim("exp", -1),
    "exp true": claim("exp", True),
    "exp float": claim("exp", NOW + 900.5),
    "exp infinite": claim("exp", float("inf")),
    "exp not a number": claim("exp", float("nan")),
    "exp text": claim("exp", str(int(NOW) + 900)),
    "exp null": claim("exp", None),
    "exp list": claim("exp", [int(NOW) + 900]),
    "iat missing": claim("iat", MISSING),
    "iat 61 s ahead": claim("iat", int(NOW) + 61),
    "iat an hour ahead": claim("iat", int(NOW) + 3600),
    "iat true": claim("iat", True),
    "iat text": claim("iat", "now"),
    "nbf 61 s ahead": claim("nbf", int(NOW) + 61),
    "nbf null": claim("nbf", None),
    "nbf text": claim("nbf", "0"),
    "nbf false": claim("nbf", False),
    "sub missing": claim("sub", MISSING),
    "sub empty": claim("sub", ""),
    "sub number": claim("sub", 1),
    "sub list": claim("sub", ["0b9c"]),
    "sub 256 characters": claim("sub", "x" * 256),
    "jti missing": claim("jti", MISSING),
    "jti number": claim("jti", 1),
    "jti 65 characters": claim("jti", "x" * 65),
    "scope missing": claim("scope", MISSING),
    "scope list": claim("scope", ["admin"]),
    "tenant missing": claim("tenant", MISSING),
    "tenant empty": claim("tenant", ""),
    "tenant object": claim("tenant", {"id": "acme"}),
    "may_leave text": claim("may_leave", "true"),
    "may_leave number": claim("may_leave", 1),
    "kind of a key": claim("kind", "key"),
    "kind outside": claim("kind", "outside"),
    "kind list": claim("kind", ["user"]),
    "kind null": claim("kind", None),
    "gen true": claim("gen", True),
    "gen text": claim("gen", "1"),
    "gen null": claim("gen", None),
    "sid number": claim("sid", 1),
    "sid empty": claim("sid", ""),
    "sid long": claim("sid", "x" * 65),
    "rpm zero": claim("rpm", 0),
    "rpm true": claim("rpm", True),
    "rpm text": claim("rpm", "1000"),
}


@pytest.mark.parametrize("make", TOKENS.values(), ids=TOKENS.keys())
def test_a_bad_token_is_refused_and_nothing_else_happens(
    make: Callable[[SigningKey], str], keys: KeySet, tokens: Tokens
) -> None:
    with pytest.raises(InvalidToken) as refused:
        tokens.verify(make(keys.newest))
    assert str(refused.value) == "A valid bearer token is required: it is missing, wrong or expired."
    assert tokens.remembered == 0


KEYS = keys_from_text(new_pem())
TOKEN = forge(KEYS.newest, good_header(KEYS.newest), good_claims())


def verify(token: str) -> Any:
    return Tokens(KEYS, ISSUER, AUDIENCE, now=lambda: NOW).verify(token)


@given(st.integers(0, len(TOKEN)), st.integers(0, 3), st.text(max_size=3))
def test_a_good_token_changed_anywhere_is_refused(start: int, length: int, replacement: str) -> None:
    changed = TOKEN[:start] + replacement + TOKEN[start + length :]
    if changed == TOKEN:
        verify(changed)
        return
    with pytest.raises(InvalidToken):
        verify(changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["iss", "aud", "exp", "sub", "jti", "tenant", "scope", "may_leave", "iat"]), JSON)
def test_a_signed_claim_of_any_json_value_is_accepted_or_refused_but_never_breaks(name: str, value: object) -> None:
    try:
        claims = verify(forge(KEYS.newest, good_header(KEYS.newest), good_claims() | {name: value}))
    except InvalidToken:
        return
    assert isinstance(claims.principal.subject, str)


@given(JSON, JSON)
def test_any_json_for_header_and_claims_is_refused(header: object, claims: object) -> None:
    with pytest.raises(InvalidToken):
        verify(forge(KEYS.newest, header, claims))


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        verify(text)
