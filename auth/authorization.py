"""The Authorization header (RFC 6750 §2.1)."""

import re

from auth.errors import InvalidToken

# "Bearer" 1*SP b64token. The scheme is case-insensitive (RFC 9110 §11.1); the rest of the line must be the token alone.
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*) *", re.ASCII)


def bearer(header: str | None) -> str:
    """Give the token of an Authorization header's value; raises InvalidToken when there is none."""
    if header is None or not header[:7].lower().startswith("bearer"):
        raise InvalidToken(given=False)
    match = _BEARER.fullmatch(header)
    if match is None:
        raise InvalidToken
    return match[1]
