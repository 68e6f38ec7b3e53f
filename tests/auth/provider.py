"""An outside issuer: its keys, its tokens, which can be wrong in any part, and the server that publishes its keys."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk
from jose.backends.base import Key
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from auth.issuers import Issuer, OutsideTokens
from auth.jwks import ALGORITHMS
from auth.principal import CHAT, KEYS, MODELS
from tests.auth.forge import NOW, encode
from tests.loopback import serve

HOME, OTHER = "https://id.example", "https://login.example"
MISSING = object()


@dataclass(frozen=True)
class Signer:
    """A key pair of an issuer."""

    kid: str
    alg: str
    private: Key

    @classmethod
    def make(cls, kid: str, alg: str, bits: int = 2048) -> "Signer":
        key: Any = rsa.generate_private_key(65537, bits)
        if alg.startswith("ES"):
            curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[alg]
            key = ec.generate_private_key(curve)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return cls(kid, alg, jwk.construct(pem, alg))

    @property
    def public(self) -> dict[str, Any]:
        return self.private.public_key().to_dict() | {"kid": self.kid, "use": "sig"}

    def sign(self, header: object, claims: object) -> str:
        """A token of whatever is given, which this key signs in its own way."""
        signing_input = f"{encode(header)}.{encode(claims)}"
        return f"{signing_input}.{encode(self.private.sign(signing_input.encode()))}"

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good token, but for what is given."""
        plain = {"alg": self.alg, "typ": "JWT", "kid": self.kid} | (header or {})
        return self.sign(present(plain), present(good_claims() | claims))


def present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not MISSING}


def good_claims() -> dict[str, Any]:
    times = {"iat": int(NOW), "nbf": int(NOW), "exp": int(NOW) + 900}
    return {"iss": HOME, "aud": "passerelle", "sub": "mia", "org": "acme", "scope": "ask read"} | times


def issuer(url: str, **values: Any) -> Issuer:
    plain = Issuer(
        name="home",
        issuer=HOME,
        audience="passerelle",
        jwks_url=url,
        algorithms=frozenset(ALGORITHMS),
        tenant=None,
        tenant_claim="org",
        tenants=frozenset({"acme", "umbrella"}),
        scope_claim="scope",
        scopes={"ask": frozenset({CHAT}), "manage": frozenset({KEYS})},
        default_scopes=frozenset({MODELS}),
        may_leave=True,
        requests_per_minute=7,
    )
    return replace(plain, **values)


RSA, EC, P384, P521 = (Signer.make(alg, alg) for alg in ("RS256", "ES256", "ES384", "ES512"))
STRANGER = Signer.make("RS256", "RS256")
GOOD = (RSA, EC, P384, P521)


class Provider:
    """An issuer's server and the clocks of those who ask it. It answers while `open`."""

    def __init__(self) -> None:
        self.hits, self.answered, self.clock, self.url = 0, 0, 0.0, ""
        self.open = asyncio.Event()
        self.open.set()
        self.status, self.headers, self.body = 200, {"X-Plain": "1"}, b""
        self.publish(*(signer.public for signer in GOOD))

    def publish(self, *keys: object) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    def tokens(self, *issuers: Issuer, **options: Any) -> OutsideTokens:
        now, clock = lambda: NOW + self.clock, lambda: self.clock
        return OutsideTokens(issuers or [issuer(self.url)], now=now, clock=clock, **options)

    async def asked(self, hits: int) -> None:
        """Wait until that many requests have come."""
        async with asyncio.timeout(10):
            while self.hits < hits:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.01)

    async def settled(self, hits: int) -> None:
        """Wait until that many requests have come and their answers have been read."""
        await self.asked(hits)
        async with asyncio.timeout(10):
            while self.answered < hits:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    async def _answer(self, request: Request) -> Response:
        self.hits += 1
        await self.open.wait()
        self.answered += 1
        return Response(self.body, self.status, self.headers)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> "AsyncIterator[Provider]":
        provider = cls()
        routes = [Route(path, provider._answer) for path in ("/jwks", "/moved")]
        async with serve(Starlette(routes=routes)) as base:
            provider.url = f"{base}/jwks"
            yield provider
            provider.open.set()
