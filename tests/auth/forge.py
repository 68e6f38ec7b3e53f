"""Tokens put together by hand, so that any part of one can be wrong."""

import base64
import json
from typing import Any

from auth.signing import SigningKey

NOW = 1_800_000_000.0  # seconds since 1970, the time of the clocks in these tests
ISSUER, AUDIENCE = "https://passerelle.test", "passerelle"


def good_header(key: SigningKey) -> dict[str, Any]:
    return {"alg": "ES256", "typ": "JWT", "kid": key.kid}


def good_claims() -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "0b9c",
        "jti": "abc",
        "iat": int(NOW),
        "exp": int(NOW) + 900,
        "scope": "chat models",
        "tenant": "acme",
        "may_leave": False,
    }


def encode(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(key: SigningKey, header: object, claims: object) -> str:
    """Sign whatever is given with `key`; bytes go in as they are."""
    signing_input = f"{encode(header)}.{encode(claims)}"
    return f"{signing_input}.{encode(key.private.sign(signing_input.encode()))}"
