"""What a token says, once its signature holds.

python-jose checks a claim only when it is there, and against the wall clock; here every claim is required, typed and
compared with the clock that is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from auth.errors import InvalidToken
from auth.principal import Kind, Principal

_KINDS: Final[dict[str, Kind]] = {"user": "user", "client": "client"}
LEEWAY_S = 60  # how far ahead another worker's clock may be; granted to `iat` and `nbf`, never to `exp`


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token; times are whole seconds since 1970 UTC (RFC 7519 NumericDate).

    `generation` is the one of its subject when it was issued.
    """

    principal: Principal
    token_id: str
    issued_at: int
    expires_at: int
    generation: int


def read(payload: Mapping[str, object], *, issuer: str, audience: str, now: float) -> Claims:
    """Check the claims of RFC 7519 §4.1 and ours; raises InvalidToken on the first that does not hold."""
    # A list for `aud` is legal in RFC 7519, but we issue none: to accept one is to accept tokens meant for others too.
    if payload.get("iss") != issuer or payload.get("aud") != audience:
        raise InvalidToken
    issued_at, expires_at = _seconds(payload, "iat"), _seconds(payload, "exp")
    not_before = _seconds(payload, "nbf") if "nbf" in payload else issued_at
    if now >= expires_at or max(issued_at, not_before) > now + LEEWAY_S:
        raise InvalidToken
    may_leave, rpm = payload.get("may_leave", False), payload.get("rpm")
    if type(may_leave) is not bool or not (rpm is None or (type(rpm) is int and rpm > 0)):
        raise InvalidToken
    generation, kind = payload.get("gen", 0), _KINDS.get(str(payload.get("kind", "user")))
    if type(generation) is not int or kind is None:
        raise InvalidToken
    principal = Principal(
        subject=_text(payload, "sub", 255),
        tenant=_text(payload, "tenant", 255),
        scopes=frozenset(_text(payload, "scope", 1024, least=0).split()),
        kind=kind,
        may_leave=may_leave,
        requests_per_minute=rpm,
        session=_text(payload, "sid", 64) if "sid" in payload else None,
    )
    return Claims(principal, _text(payload, "jti", 64), issued_at, expires_at, generation)


def _seconds(payload: Mapping[str, object], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int:  # not isinstance: True is an int to Python
        raise InvalidToken
    return value


def _text(payload: Mapping[str, object], name: str, most: int, least: int = 1) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise InvalidToken
    return value
